"""How many threads a session gets, and what a broken model folder says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import onnx
import pytest

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.encoder import open_encoder
from lsbuild_plugins.onnx.serve.engine import open_engine
from lsbuild_plugins.onnx.serve.session import available_cpus, number
from lsbuild_runtime.http import ApiError
from onnx_serve_models import NoHost, service


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 99),
        ({"cpu.max": "max 100000\n"}, 99),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 99),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_cpus_are_the_affinity_cut_by_the_quota(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == min(cpus, len(os.sched_getaffinity(0)))


def test_numbers_of_the_config() -> None:
    assert number(service("m", threads="3"), "threads", 1) == 3
    assert number(service("m"), "queue", 32) == 32
    for wrong in (0, -1, "two", True, None, 1.5j):
        with pytest.raises(ApiError, match=r"config\.threads is .*whole number"):
            number(service("m", threads=wrong), "threads", 1)


def broken(folder: Path, tmp_path: Path, name: str, content: bytes | None) -> str:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(content)
    opens = open_engine if (copy / "chat_template.jinja").exists() else open_encoder
    with pytest.raises(ApiError) as error:
        opens(service("tiny"), copy, NoHost())
    assert (error.value.status, error.value.code) == (503, "model_unavailable")
    assert "'tiny'" in error.value.message
    return error.value.message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.json", None, "cannot be read.*build the artifact again"),
        ("model.json", b"{}", "cannot be read"),
        ("model.json", b'{"type": "encoder", "dimensions": 4, "max_tokens": 4}', "describes an encoder"),
        ("tokenizer.json", b"{}", "tokenizer.json cannot be read"),
        ("model.onnx", None, "onnxruntime could not load model.onnx"),
        ("model.onnx", b"junk", "onnxruntime could not load model.onnx"),
        ("model.data", None, "onnxruntime could not load model.onnx"),
        ("chat_template.jinja", b"{% if %}", r"chat_template.jinja cannot be used \(not valid jinja"),
    ],
)
def test_a_broken_decoder_says_what_is_broken(
    float_folder: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    assert re.search(message, broken(float_folder, tmp_path, name, content))


def test_a_graph_of_another_shape_is_refused(float_folder: Path, growing_folder: Path, tmp_path: Path) -> None:
    card = (growing_folder / "model.json").read_bytes()
    assert "attention_mask" in broken(float_folder, tmp_path, "model.json", card)


def test_a_graph_with_unknown_inputs_is_refused(growing_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "odd"
    shutil.copytree(growing_folder, copy)
    graph = onnx.load(copy / "model.onnx", load_external_data=False)
    graph.graph.input.append(onnx.helper.make_tensor_value_info("use_cache_branch", onnx.TensorProto.BOOL, [1]))
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    card = model_format.read(copy)
    assert isinstance(card, model_format.Decoder)
    model_format.write(copy, msgspec.structs.replace(card, inputs=(*card.inputs, "use_cache_branch")))
    with pytest.raises(ApiError, match="inputs that are not supported: use_cache_branch"):
        open_engine(service("tiny"), copy, NoHost())


def test_a_broken_encoder_says_what_is_broken(encoder_folder: Path, float_folder: Path, tmp_path: Path) -> None:
    card = (float_folder / "model.json").read_bytes()
    assert "describes another kind of model" in broken(encoder_folder, tmp_path, "model.json", card)


def test_the_tokenizer_comes_without_the_package_around_it() -> None:
    code = (
        "import sys; from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer; "
        "assert 'tokenizers' not in sys.modules and 'tokenizers.implementations' not in sys.modules; "
        "import tokenizers; assert tokenizers.Tokenizer is Tokenizer"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
