"""Graphs that exist already: copied without opening anything outside of the source, repacked only for exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.linear import Format
from lsbuild_plugins.onnx.compile.repack import repack
from lsbuild_plugins.onnx.serve import format as model_format
from onnx_compile_models import write_tokenizer

Build = Callable[..., tuple[Path, dict[str, Any]]]
TABLE = np.random.default_rng(0).normal(size=(128, 16)).astype(np.float32)


def _external(location: str, **more: int) -> TensorProto:
    tensor = TensorProto(name="table", data_type=1, dims=TABLE.shape, data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": location} | more).items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _encoder(folder: Path, table: TensorProto, **names: str) -> Path:
    """A graph that only looks tokens up: hidden states f32[B, S, 16]."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, output = names.get("ids", "input_ids"), names.get("output", "last_hidden_state")
    node = helper.make_node(names.get("op", "Gather"), ["table", ids], [output], domain=names.get("domain", ""))
    inputs = [helper.make_tensor_value_info(ids, TensorProto.INT64, ["b", "s"])]
    inputs += [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["b", "s"])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", "s", 16])]
    graph = helper.make_graph([node], "g", inputs, outputs, [table])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(names.get("domain", "ai.onnx.ml"), 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_tokenizer(folder)
    return folder


def test_it_is_taken_as_it_is(tmp_path: Path, build: Build) -> None:
    folder = _encoder(tmp_path / "m", _external("weights.bin", offset=64))
    (folder / "weights.bin").write_bytes(bytes(64) + TABLE.tobytes())
    (folder / "config.json").write_text('{"max_position_embeddings": 33}')
    out, facts = build(folder, type="embedding", config={"pooling": "cls"})
    card = model_format.read(out)
    assert card == model_format.Encoder(
        dimensions=16, max_tokens=33, mask="int64", output="last_hidden_state", pooling="cls"
    )
    assert facts["graph"] == "model.onnx"
    ids = np.array([[5, 7]])
    found = gate.open_graph(out / "model.onnx").run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    assert (found == TABLE[ids]).all()


def test_a_lone_file_needs_no_config(tmp_path: Path, build: Build) -> None:
    folder = _encoder(tmp_path / "m", numpy_helper.from_array(TABLE, "table"))
    out, _ = build(folder, type="embedding")
    assert (out / "model.data").stat().st_size >= TABLE.nbytes


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", "..\\secret.bin", "", "gone.bin"]
)
def test_tensors_cannot_name_files_outside_of_the_source(location: str, tmp_path: Path, build: Build) -> None:
    (tmp_path / "secret.bin").write_bytes(TABLE.tobytes())
    folder = _encoder(tmp_path / "m", _external(location))
    with pytest.raises(SourceError, match="not a file of the source"):
        build(folder, type="embedding")


@pytest.mark.parametrize("changes", [{"offset": 64}, {"offset": -1}, {"length": 10**9}, {"length": -5}])
def test_tensors_cannot_reach_beyond_their_file(changes: dict[str, Any], tmp_path: Path, build: Build) -> None:
    folder = _encoder(tmp_path / "m", _external("weights.bin", **{"length": TABLE.nbytes} | changes))
    (folder / "weights.bin").write_bytes(TABLE.tobytes())
    with pytest.raises(SourceError, match="claims bytes"):
        build(folder, type="embedding")


def test_a_tensor_inside_a_node_cannot_name_a_file(tmp_path: Path, build: Build) -> None:
    folder = _encoder(tmp_path / "m", numpy_helper.from_array(TABLE, "table"))
    model = onnx.load(folder / "model.onnx")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=_external("../secret.bin")))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match="keeps a tensor in another file"):
        build(folder, type="embedding")


def test_a_graph_that_quantises_activations_says_that_batches_matter(tmp_path: Path, build: Build) -> None:
    folder = _encoder(tmp_path / "m", numpy_helper.from_array(TABLE, "table"))
    model = onnx.load(folder / "model.onnx")
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["last_hidden_state"], ["q", "scale", "zero"]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    card = model_format.read(build(folder, type="embedding")[0])
    assert isinstance(card, model_format.Encoder) and not card.batch_invariant


def test_what_cannot_be_served_is_named(tmp_path: Path, build: Build) -> None:
    table = numpy_helper.from_array(TABLE, "table")
    with pytest.raises(SourceError, match=r"my\.ops"):
        build(_encoder(tmp_path / "a", table, op="Mine", domain="my.ops"), type="embedding")
    with pytest.raises(SourceError, match="takes tokens"):
        build(_encoder(tmp_path / "b", table, ids="tokens"), type="embedding")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(SourceError, match="no ONNX model"):
        build(tmp_path / "c", type="embedding")
    with pytest.raises(SourceError, match="no usable past"):
        build(_encoder(tmp_path / "d", table), type="llm")


def test_quantising_a_given_graph_is_refused(tmp_path: Path, build: Build) -> None:
    folder = _encoder(tmp_path / "m", numpy_helper.from_array(TABLE, "table"))
    with pytest.raises(SourceError, match="quantize: int8 cannot be applied"):
        build(folder, type="embedding", quantize="int8")


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Gemm turned", "shared by Identity"])
def test_products_of_an_export_are_repacked(kind: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(size=(64, 32)).astype(np.float32), draw.normal(size=32).astype(np.float32)
    x = draw.normal(size=(5, 64)).astype(np.float32)
    held = weight.T.copy() if kind == "Gemm turned" else weight
    if kind.startswith("Gemm"):
        nodes, wanted = (
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(kind == "Gemm turned"))],
            x @ weight + bias,
        )
    elif kind == "MatMul":
        nodes, wanted = [helper.make_node("MatMul", ["x", "w"], ["y"])], x @ weight
    else:
        nodes = [helper.make_node("Identity", ["w"], ["v"]), helper.make_node("MatMul", ["x", "w"], ["p"]),
                 helper.make_node("MatMul", ["x", "v"], ["q"]), helper.make_node("Add", ["p", "q"], ["y"])]  # fmt: skip
        wanted = 2 * (x @ weight)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 64])], [helper.make_tensor_value_info("y", 1, ["n", 32])],
        [numpy_helper.from_array(held, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert repack(model, numpy_helper.to_array, Format(8, 32)) == (2 if "shared" in kind else 1)
    assert not {"MatMul", "Gemm", "Identity"} & {node.op_type for node in model.graph.node}
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    found = gate.open_graph(tmp_path / "m.onnx").run(None, {"x": x})[0]
    assert np.abs(found - wanted).max() < 0.05 * wanted.std()


def test_the_permission_to_export_changes_no_given_graph(tmp_path: Path, build: Build) -> None:
    folder = _encoder(tmp_path / "m", numpy_helper.from_array(TABLE, "table"))
    _, facts = build(folder, type="embedding", config={"export": True})
    assert "products_quantised" not in facts


def test_a_matrix_that_something_else_reads_is_left_alone() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Transpose", ["w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(np.ones((64, 32), np.float32), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert repack(model, numpy_helper.to_array, Format(8, 32)) == 0
