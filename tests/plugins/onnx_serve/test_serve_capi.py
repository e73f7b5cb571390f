"""The C API gives what onnxruntime's Python module gives, bit for bit, and says what it refuses."""

from __future__ import annotations

import gc
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from lsbuild_plugins.onnx.serve import capi, numpy_session, text_graph
from lsbuild_plugins.onnx.serve.encoder import open_encoder
from lsbuild_plugins.onnx.serve.session import open_session
from lsbuild_plugins.onnx.serve.tensor import filled, integers, mean, rows, unit
from lsbuild_runtime.http import Context
from onnx_serve_models import NoHost, service, write_encoder

IDS = [(2, 4, 5, 6, 3), (2, 7, 8, 9, 3)]
FEEDS = {"input_ids": integers(IDS), "attention_mask": filled((2, 5), 1, "int32")}


def opened(graph: Path) -> tuple[text_graph.Session, text_graph.Session]:
    library = capi.library()
    assert library is not None, "the wheel of onnxruntime has no shared library"
    return capi.Session(library, graph, 1), numpy_session.Session(open_session(service("m", threads=1), graph))


@pytest.mark.parametrize("quantize", ["none", "int8", "int8-fast"])
def test_both_engines_give_the_same_bits(tmp_path: Path, quantize: str) -> None:
    native, python = opened(write_encoder(tmp_path / "model", quantize) / "model.onnx")
    assert native.inputs == python.inputs == ("input_ids", "attention_mask")
    found, expected = native.run("embedding", FEEDS), python.run("embedding", FEEDS)
    assert found.shape == expected.shape == (2, 32)
    assert found.values.tobytes() == expected.values.tobytes()


def test_an_artifact_with_numpy_has_the_python_module_and_the_same_vectors(
    encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = open_encoder(service("embed"), encoder_folder, NoHost()).embed(["w1 w2", "w3"], Context())
    monkeypatch.setattr(capi, "library", lambda: None)
    assert open_encoder(service("embed"), encoder_folder, NoHost()).embed(["w1 w2", "w3"], Context()) == native


def test_the_library_is_found_without_importing_onnxruntime_or_numpy(encoder_folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lsbuild_plugins.onnx.serve import capi; "
        "session = capi.Session(capi.library(), Path(sys.argv[1]), 1); "
        "assert not {'numpy', 'onnxruntime'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code, str(encoder_folder / "model.onnx")], check=True, timeout=120)


def test_no_library_is_taken_from_behind_the_first_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "onnxruntime/capi").mkdir(parents=True)
    (second / "onnxruntime/capi/libonnxruntime.so.1.31.1").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "missing"), str(first), str(second)])
    assert capi.library() is None
    monkeypatch.setattr(sys, "path", [str(second), str(first)])
    assert capi.library() == second / "onnxruntime/capi/libonnxruntime.so.1.31.1"


def test_refusals_are_onnxruntimes_own_words(encoder_folder: Path, tmp_path: Path) -> None:
    native, _ = opened(encoder_folder / "model.onnx")
    with pytest.raises(capi.OrtError, match="Invalid rank for input: input_ids"):
        native.run("embedding", {**FEEDS, "input_ids": integers(IDS)._replace(shape=(10,))})
    with pytest.raises(capi.OrtError, match="Unexpected input data type"):
        native.run("embedding", {**FEEDS, "attention_mask": filled((2, 5), 1)})
    with pytest.raises(capi.OrtError, match="nothing"):
        native.run("nothing", FEEDS)
    assert native.run("embedding", FEEDS).shape == (2, 32)  # the session is as good as before
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    library = capi.library()
    assert library is not None
    with pytest.raises(capi.OrtError, match=r"model\.onnx"):
        capi.Session(library, tmp_path / "model.onnx", 1)


def test_an_output_that_is_not_float32_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    graph = onnx.load(encoder_folder / "model.onnx")
    graph.graph.node.append(onnx.helper.make_node("Cast", ["embedding"], ["halves"], to=onnx.TensorProto.FLOAT16))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("halves", onnx.TensorProto.FLOAT16, ["b", 32]))
    onnx.save(graph, tmp_path / "model.onnx")
    native, python = opened(tmp_path / "model.onnx")
    with pytest.raises(capi.OrtError, match="not float32"):
        native.run("halves", FEEDS)
    assert python.run("halves", FEEDS).shape == (2, 32)


def test_a_session_that_nobody_holds_is_released(encoder_folder: Path) -> None:
    native, _ = opened(encoder_folder / "model.onnx")
    released: list[int | None] = []
    api = native._api  # type: ignore[attr-defined]
    release, api.release["Value"] = api.release["Value"], lambda handle: (released.append(handle), release(handle))
    try:
        native.run("embedding", FEEDS)
    finally:
        api.release["Value"] = release
    assert len(released) == 3 and all(released)  # two inputs and the output
    del native
    gc.collect()


@pytest.mark.parametrize("values", [[3.0, 4.0], [0.0, 0.0], [-1.0, 1.0]])
def test_numbers_are_those_of_numpy(values: Sequence[float]) -> None:
    vector = array("f", values)
    norm = max(float(np.linalg.norm(values)), 1e-12)
    assert unit(vector).tolist() == pytest.approx([value / norm for value in values])
    states = array("f", [*values, 1.0, 2.0, 5.0, 6.0])
    assert mean(states, 2).tolist() == pytest.approx(np.array(states).reshape(3, 2).mean(axis=0).tolist())
    assert [row.tolist() for row in rows(integers([(1, 2), (3, 4)]))] == [[1, 2], [3, 4]]
