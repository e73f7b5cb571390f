"""Embeddings: order, independence of batch mates, limits."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.encoder import Encoder, open_encoder
from lsbuild_plugins.onnx.serve.ort import ort
from lsbuild_runtime.http import ApiError, Cancelled, Context
from onnx_serve_models import NoHost, service, write_encoder

TEXTS = [" ".join(f"w{(3 * n + k) % 60}" for k in range(1 + 5 * n % 13)) for n in range(24)]


def vectors(encoder: Encoder, inputs: Sequence[str] | Sequence[Sequence[int]]) -> NDArray[np.float32]:
    found = encoder.embed(inputs, Context()).vectors
    return np.stack([np.frombuffer(vector, "<f4") for vector in found])


def test_vectors_are_those_of_the_graph_in_the_order_of_the_inputs(encoder: Encoder, encoder_folder: Path) -> None:
    session = ort.InferenceSession(encoder_folder / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(encoder_folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    found = encoder.embed(TEXTS, Context())
    total = 0
    for text, vector in zip(TEXTS, found.vectors, strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        total += ids.size
        (expected,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.int32)})
        assert np.allclose(np.frombuffer(vector, "<f4"), expected[0], atol=1e-6)
    assert found.tokens == total
    assert np.allclose(np.linalg.norm(vectors(encoder, TEXTS), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("quantize", "invariant"), [("none", True), ("int8", True), ("int8-fast", False)])
def test_a_vector_is_the_same_alone_and_in_company(tmp_path: Path, quantize: str, invariant: bool) -> None:
    folder = write_encoder(tmp_path / "model", quantize, batch_invariant=invariant)
    encoder = open_encoder(service("embed"), folder, NoHost())
    together = vectors(encoder, TEXTS)
    alone = np.concatenate([vectors(encoder, [text]) for text in TEXTS])
    assert np.array_equal(together, alone)


def test_token_ids_are_taken_as_they_are(encoder: Encoder) -> None:
    assert np.array_equal(vectors(encoder, [[2, 4, 5, 3], [2, 6, 3]]), vectors(encoder, ["w0 w1", "w2"]))


def test_many_threads_get_the_same_vectors(encoder: Encoder) -> None:
    expected = vectors(encoder, TEXTS)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: vectors(encoder, TEXTS), range(8)))
    assert all(np.array_equal(each, expected) for each in found)


def test_dimensions_cut_and_normalise_again(encoder: Encoder) -> None:
    whole = vectors(encoder, TEXTS[:3])
    cut = np.stack([np.frombuffer(v, "<f4") for v in encoder.embed(TEXTS[:3], Context(), dimensions=8).vectors])
    expected = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    assert np.allclose(cut, expected, atol=1e-6)
    assert encoder.embed(TEXTS[:3], Context(), dimensions=32) == encoder.embed(TEXTS[:3], Context())


@pytest.mark.parametrize(
    ("inputs", "dimensions", "message"),
    [
        (["w1", ""], None, r"input\[1\] is empty"),
        ([[]], None, r"input\[0\] is empty"),
        (["w1 " * 31], None, r"input\[0\] has 33 tokens; model 'embed' reads at most 32"),
        ([[1] * 33], None, r"input\[0\] has 33 tokens"),
        ([[1, 64]], None, r"token id 64 is not in 0\.\.63"),
        ([[-1]], None, r"token id -1 is not in 0\.\.63"),
        (["w1"], 33, "dimensions is 33; model 'embed' gives 1 to 32"),
        (["w1"], 0, "dimensions is 0"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    encoder: Encoder, inputs: list[str], dimensions: int | None, message: str
) -> None:
    with pytest.raises(ApiError, match=message) as error:
        encoder.embed(inputs, Context(), dimensions)
    assert error.value.status == 400
    assert error.value.param == ("input" if dimensions is None else "dimensions")


def test_the_longest_input_is_accepted(encoder: Encoder) -> None:
    assert encoder.embed(["w1 " * 30], Context()).tokens == 32


def test_a_cancelled_request_stops(encoder: Encoder) -> None:
    context = Context()
    context.cancel.set()
    with pytest.raises(Cancelled):
        encoder.embed(TEXTS, context)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_graphs_that_give_hidden_states_are_pooled_and_normalised(
    encoder_folder: Path, encoder: Encoder, tmp_path: Path, pooling: str
) -> None:
    import onnx

    graph = onnx.load(encoder_folder / "model.onnx")
    hidden = next(node.output[0] for node in reversed(graph.graph.node) if node.op_type == "SkipLayerNormalization")
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(hidden, onnx.TensorProto.FLOAT, ["b", "s", 32]))
    onnx.save(graph, tmp_path / "model.onnx")
    (tmp_path / "tokenizer.json").write_bytes((encoder_folder / "tokenizer.json").read_bytes())
    model_format.write(
        tmp_path,
        model_format.Encoder(dimensions=32, max_tokens=32, output=hidden, pooling=pooling),  # type: ignore[arg-type]
    )
    found = vectors(open_encoder(service("embed"), tmp_path, NoHost()), TEXTS)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found, vectors(encoder, TEXTS), atol=1e-5) == (pooling == "mean")
