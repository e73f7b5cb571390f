"""Graphs in the form that GPUs run whole: the same answers on the CPU, and no operator that a provider does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from lsbuild_plugins.onnx.compile.fit import fit, lacking
from onnx_serve_models import write_decoder, write_encoder


def kinds(folder: Path) -> set[tuple[str, str]]:
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    return {(node.domain, node.op_type) for node in graph.node}


def embedded(folder: Path) -> Any:
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 9, 11, 30, 3], [2, 5, 3, 0, 0]], np.int64)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def test_an_encoder_in_float_has_a_form_without_operators_of_onnxruntime(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    before = embedded(folder)
    facts = fit(folder / "model.onnx", ["tensorrt", "cuda", "cpu"], {})
    assert facts["runs_on"] == ["tensorrt", "cuda", "cpu"]
    assert not facts["warnings"]
    assert {domain for domain, _ in kinds(folder)} == {""}
    onnx.checker.check_model(str(folder / "model.onnx"))
    np.testing.assert_allclose(embedded(folder), before, atol=2e-6)


def test_an_encoder_in_blocks_of_8_bits_is_not_for_tensorrt_and_says_so(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder", "int8")
    before = embedded(folder)
    facts = fit(folder / "model.onnx", ["tensorrt", "cuda", "cpu"], {"warnings": ["w"]})
    assert facts["runs_on"] == ["cuda", "cpu"]
    first, second = facts["warnings"]
    assert first == "w"
    assert second.startswith("tensorrt does not have GatherBlockQuantized, MatMulNBits: this model runs on cuda or cpu")
    np.testing.assert_allclose(embedded(folder), before, atol=2e-6)


def test_dynamic_quantisation_is_for_the_cpu_alone(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder", "int8-fast", batch_invariant=False)
    assert fit(folder / "model.onnx", ["cuda", "cpu"], {})["runs_on"] == ["cpu"]


def test_a_decoder_gets_a_memory_of_float16(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "decoder")
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    assert lacking(graph, "cuda") == ("GroupQueryAttention of float32",)
    facts = fit(folder / "model.onnx", ["tensorrt", "cuda", "cpu"], {"kv_bytes_per_token": 512})
    assert facts["runs_on"] == ["cuda", "cpu"]
    assert facts["kv_bytes_per_token"] == 256
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types["past_key_values.0.key"] == types["present.1.value"] == TensorProto.FLOAT16
    assert types["logits"] == TensorProto.FLOAT


def test_what_it_cannot_rewrite_it_leaves_and_tells(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    packed = helper.make_node("Gelu", ["embedding"], ["odd"], domain="com.microsoft")
    norm = helper.make_node("BiasGelu", ["odd", "odd"], ["odder"], domain="com.microsoft")
    model.graph.node.extend([packed, norm])
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    facts = fit(folder / "model.onnx", ["tensorrt", "cpu"], {})
    assert facts["runs_on"] == ["cpu"]
    assert "tensorrt does not have BiasGelu" in facts["warnings"][0]


@pytest.mark.parametrize("quantize", ["none", "int4"])
def test_two_fittings_give_the_same_bytes(tmp_path: Path, quantize: str) -> None:
    one, two = write_decoder(tmp_path / "one", quantize), write_decoder(tmp_path / "two", quantize)
    for folder in (one, two):
        fit(folder / "model.onnx", ["cuda", "cpu"], {})
    assert (one / "model.onnx").read_bytes() == (two / "model.onnx").read_bytes()
