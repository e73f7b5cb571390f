"""The entry of an embedding model: opens its folder and answers ``Embeddings``; it keeps no state between calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.batches import batches
from lsbuild_plugins.onnx.serve.folder import read_folder
from lsbuild_plugins.onnx.serve.provider_settings import Texts
from lsbuild_plugins.onnx.serve.session import Opened, open_for, reason
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Embedded, Host

Vectors = NDArray[np.float32]
Ids = tuple[int, ...]


def open_encoder(service: Service, root: Path, host: Host) -> Encoder:
    """Open the model folder ``root/service.path``; raises ApiError 503 naming what is wrong with it.

    ``service.config``: ``threads`` (default: the CPUs this process may use), ``execution`` (see execution.Execution).
    """
    folder = root / service.path
    card, tokenizer = read_folder(service, folder)
    if not isinstance(card, model_format.Encoder):
        raise unavailable(service.name, "model.json describes another kind of model; an encoder was expected")
    opened = open_for(service, folder / "model.onnx", host, Texts(card.inputs, card.max_tokens))
    differ = {value.name for value in opened.session.get_inputs()} ^ set(card.inputs)
    if differ:
        raise unavailable(service.name, f"the graph's inputs differ from model.json: {', '.join(sorted(differ))}")
    return Encoder(service.name, card, tokenizer, opened)


class Encoder:
    """A text encoder behind the ``Embeddings`` port. Thread-safe: onnxruntime runs one session from many threads."""

    def __init__(self, name: str, card: model_format.Encoder, tokenizer: Tokenizer, opened: Opened) -> None:
        self._name = name
        self._card = card
        self._tokenizer = tokenizer
        self._session = opened.session
        self._rows = opened.rows
        self.placement = opened.placement
        self._vocab: int = tokenizer.get_vocab_size()

    def embed(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], context: Context, dimensions: int | None = None
    ) -> Embedded:
        """Unit-length float32 little-endian vectors, in the order of ``inputs``.

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
            for places in batches([len(each) for each in ids], self._rows, invariant=self._card.batch_invariant):
                context.check()
                vectors = _cut(self._run([ids[place] for place in places]), dimensions)
                for place, vector in zip(places, vectors, strict=True):
                    out[place] = vector.astype("<f4", copy=False).tobytes()
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

    def _run(self, batch: Sequence[Ids]) -> Vectors:
        ids = np.array(batch, np.int64)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones(ids.shape, self._card.mask),
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape),
        }
        try:
            (output,) = self._session.run([self._card.output], {name: feeds[name] for name in self._card.inputs})
        except Exception as error:
            raise unavailable(self._name, f"onnxruntime failed: {reason(error)}") from error
        return self._pooled(np.asarray(output, np.float32))

    def _pooled(self, output: Vectors) -> Vectors:
        """f32[B,D] from the graph's output; nothing is padded, so the mean is over all tokens."""
        if self._card.pooling == "graph":
            return output
        vectors: Vectors = output.mean(axis=1) if self._card.pooling == "mean" else output[:, 0]
        return _unit(vectors) if self._card.normalize else vectors


def _cut(vectors: Vectors, dimensions: int | None) -> Vectors:
    return vectors if dimensions in (None, vectors.shape[1]) else _unit(vectors[:, :dimensions])


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
