"""The entry of an embedding model: opens its folder and answers ``Embeddings``; it keeps no state between calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.batches import batches
from lsbuild_plugins.onnx.serve.folder import read_folder
from lsbuild_plugins.onnx.serve.tensor import mean, rows, unit
from lsbuild_plugins.onnx.serve.text_graph import Ids, TextGraph, open_text_graph
from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Embedded, Host

if TYPE_CHECKING:
    from array import array


def open_encoder(service: Service, root: Path, host: Host) -> Encoder:
    """Open the model folder ``root/service.path``; raises ApiError 503 naming what is wrong with it.

    ``service.config``: ``threads`` (default: the CPUs this process may use), ``execution`` (see execution.Execution).
    """
    folder = root / service.path
    card, tokenizer = read_folder(service, folder)
    if not isinstance(card, model_format.Encoder):
        raise unavailable(service.name, "model.json describes another kind of model; an encoder was expected")
    return Encoder(service.name, card, tokenizer, open_text_graph(service, folder, card, host))


class Encoder:
    """A text encoder behind the ``Embeddings`` port. Thread-safe: onnxruntime runs one session from many threads."""

    def __init__(self, name: str, card: model_format.Encoder, tokenizer: Tokenizer, graph: TextGraph) -> None:
        self._name = name
        self._card = card
        self._tokenizer = tokenizer
        self._graph = graph
        self.placement = graph.placement
        self._vocab: int = tokenizer.get_vocab_size()

    def embed(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], context: Context, dimensions: int | None = None
    ) -> Embedded:
        """Unit-length float32 vectors (little-endian, as every target is), in the order of ``inputs``.

        A vector does not depend on what else is asked for at the same time: only inputs of equal length share a run
        (so nothing is padded), and each runs alone when the graph is not ``batch_invariant``. Batching buys next to
        nothing on a CPU anyway. ``dimensions`` keeps the first ones and normalises again (Matryoshka; Kusupati et al.
        2022). Raises ApiError 400 for an empty or too long input and for ``dimensions`` the model does not have.
        """
        self._check_dimensions(dimensions)
        ids = self._all_ids(inputs)
        tokens = sum(map(len, ids))
        out: list[bytes] = [b""] * len(ids)
        about = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": self._name}
        with context.watch.span(f"embeddings {self._name}", **about) as span:
            for places in batches([len(each) for each in ids], self._graph.rows, invariant=self._card.batch_invariant):
                context.check()
                found = rows(self._graph.run([ids[place] for place in places]))
                for place, states in zip(places, found, strict=True):
                    out[place] = self._vector(states, dimensions).tobytes()
            span.set(**{"gen_ai.usage.input_tokens": tokens})
        context.watch.count("gen_ai.client.token.usage", tokens, **about, **{"gen_ai.token.type": "input"})
        return Embedded(tuple(out), tokens)

    def _check_dimensions(self, dimensions: int | None) -> None:
        if dimensions is not None and not 1 <= dimensions <= self._card.dimensions:
            raise ApiError(
                400,
                f"dimensions is {dimensions}; model {self._name!r} gives 1 to {self._card.dimensions}",
                param="dimensions",
            )

    def _all_ids(self, inputs: Sequence[str] | Sequence[Sequence[int]]) -> list[Ids]:
        values: Sequence[str | Sequence[int]] = inputs
        return [self._ids(index, value) for index, value in enumerate(values)]

    def _ids(self, index: int, value: str | Sequence[int]) -> Ids:
        if len(value) == 0:
            raise ApiError(400, f"input[{index}] is empty", param="input")
        ids = tuple(self._tokenizer.encode(value).ids) if isinstance(value, str) else tuple(value)
        limit, vocab = self._card.max_tokens, self._vocab
        if len(ids) > limit:
            raise ApiError(
                400,
                f"input[{index}] has {len(ids)} tokens; model {self._name!r} reads at most {limit}; split the text",
                param="input",
                code="context_length_exceeded",
            )
        if wrong := [token for token in ids if not 0 <= token < vocab]:
            raise ApiError(400, f"input[{index}]: token id {wrong[0]} is not in 0..{vocab - 1}", param="input")
        return ids

    def _vector(self, states: array[float], dimensions: int | None) -> array[float]:
        """One vector from what the graph gives for one input; nothing is padded, so the mean is over all tokens."""
        card = self._card
        vector = states
        if card.pooling != "graph":
            pooled = mean(states, card.dimensions) if card.pooling == "mean" else states[: card.dimensions]
            vector = unit(pooled) if card.normalize else pooled
        return vector if dimensions in (None, len(vector)) else unit(vector[:dimensions])
