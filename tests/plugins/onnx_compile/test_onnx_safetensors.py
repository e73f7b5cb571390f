"""The reader of safetensors files: right values a few rows at a time, and a SourceError for everything that lies."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile.safetensors import Stacked, open_weights, read_header
from onnx_compile_models import write_safetensors

VALUES = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


@pytest.mark.parametrize(("dtype", "error"), [("F32", 0.0), ("F16", 2**-10), ("BF16", 2**-7)])
def test_reads_each_float_type(tmp_path: Path, dtype: str, error: float) -> None:
    write_safetensors(tmp_path / "m.safetensors", {"a": VALUES, "b": VALUES[0]}, dtype)
    tensors = read_header(tmp_path / "m.safetensors")
    assert np.abs(tensors["a"].array() - VALUES).max() <= error * np.abs(VALUES).max()
    assert (tensors["a"].rows(2, 4) == tensors["a"].array()[2:4]).all()
    assert tensors["b"].array().shape == (5,)


def test_stacked_rows_cross_the_seam(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", {"a": VALUES, "b": VALUES + 1})
    tensors = read_header(tmp_path / "m.safetensors")
    both = Stacked((tensors["a"], tensors["b"]))
    assert both.shape == (14, 5)
    assert (both.rows(5, 9) == np.concatenate((VALUES, VALUES + 1))[5:9]).all()
    assert (both.rows(8, 9) == (VALUES + 1)[1:2]).all()


def test_shards_are_joined_and_must_be_there(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", {"a": VALUES})
    write_safetensors(tmp_path / "y.safetensors", {"b": VALUES})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}))
    files = {path.name: path for path in tmp_path.iterdir()}
    weights = open_weights(files)
    assert "a" in weights and "b" in weights and weights.parameters == 70
    del files["y.safetensors"]
    with pytest.raises(SourceError, match=r"y\.safetensors"):
        open_weights(files)


def test_index_cannot_leave_the_source(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "secret.safetensors", {"a": VALUES})
    (tmp_path / "in").mkdir()
    index = tmp_path / "in" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(SourceError, match="not in the source"):
        open_weights({index.name: index})


def test_tensor_that_lies_in_no_shard(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", {"a": VALUES})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "x.safetensors", "lost": "x.safetensors"}}))
    with pytest.raises(SourceError, match="lost"):
        open_weights({path.name: path for path in tmp_path.iterdir()})


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": VALUES})
    weights = open_weights({"model.safetensors": tmp_path / "model.safetensors"})
    with pytest.raises(SourceError, match="tensor b is missing"):
        weights.get("b")
    with pytest.raises(SourceError, match=r"\[7, 5\].*\[5, 7\]"):
        weights.get("a", 5, 7)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(SourceError, match="never opened"):
        open_weights({"pytorch_model.bin": tmp_path / "pytorch_model.bin"})


@given(cut=st.integers(min_value=0, max_value=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_truncation_is_found(tmp_path: Path, cut: int) -> None:
    whole = tmp_path / "m.safetensors"
    write_safetensors(whole, {"a": VALUES, "b": VALUES})
    data = whole.read_bytes()
    part = tmp_path / "part.safetensors"
    part.write_bytes(data[: min(cut, len(data) - 1)])
    with pytest.raises(SourceError, match=r"part\.safetensors"):
        read_header(part)


def _file(header: object, data: bytes = b"\0" * 64) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _entry(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | changes}


HOSTILE = {
    "empty": b"",
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "header beyond the file": struct.pack("<Q", 1000) + b"{}",
    "no JSON": _file(b"{'a'"),
    "deep JSON": _file(b"[" * 100_000),
    "not an object": _file([1]),
    "bytes beyond the file": _file(_entry(data_offsets=[64, 128])),
    "negative offset": _file(_entry(data_offsets=[-64, 0])),
    "backwards": _file(_entry(data_offsets=[64, 0])),
    "more bytes than the shape": _file(_entry(shape=[2, 4])),
    "negative shape": _file(_entry(shape=[-4, -4])),
    "shape that overflows": _file(_entry(shape=[2**62, 4])),
    "shape of strings": _file(_entry(shape=["4", 4])),
    "shape of booleans": _file(_entry(shape=[True, 16])),
    "no offsets": _file({"a": {"dtype": "F32", "shape": [4, 4]}}),
    "entry is a list": _file({"a": [1, 2]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(SourceError, match=r"hostile\.safetensors"):
        read_header(path)


def test_integer_tensors_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(_file({"ids": {"dtype": "I64", "shape": [8], "data_offsets": [0, 64]}}))
    assert read_header(path) == {}


def test_rows_end_with_the_tensor(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", {"a": VALUES, "b": VALUES})
    with pytest.raises(SourceError, match="7 rows, 6 to 8"):
        read_header(tmp_path / "m.safetensors")["a"].rows(6, 8)
