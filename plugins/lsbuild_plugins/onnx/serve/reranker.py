"""The entry of a reranker: opens its folder and answers ``Reranker``; it keeps no state between calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.batches import batches
from lsbuild_plugins.onnx.serve.folder import read_folder
from lsbuild_plugins.onnx.serve.pairs import Pair, Pairs, logistic
from lsbuild_plugins.onnx.serve.text_graph import TextGraph, open_text_graph
from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host, Scores

_ENCODED = 64
"""Passages that are encoded at a time: bounds the wait of a cancelled request."""


def open_reranker(service: Service, root: Path, host: Host) -> CrossEncoder:
    """Open the model folder ``root/service.path``; raises ApiError 503 naming what is wrong with it.

    ``service.config``: ``threads`` (default: the CPUs this process may use), ``execution`` (see execution.Execution).
    """
    folder = root / service.path
    card, tokenizer = read_folder(service, folder)
    if not isinstance(card, model_format.Reranker):
        raise unavailable(service.name, "model.json describes another kind of model; a reranker was expected")
    return CrossEncoder(service.name, card, tokenizer, open_text_graph(service, folder, card, host))


class CrossEncoder:
    """A cross-encoder behind the ``Reranker`` port. Thread-safe: onnxruntime runs one session from many threads."""

    def __init__(self, name: str, card: model_format.Reranker, tokenizer: Tokenizer, graph: TextGraph) -> None:
        self._name = name
        self._card = card
        self._pairs = Pairs(tokenizer, card.max_tokens)
        self._graph = graph
        self.placement = graph.placement

    def score(self, query: str, passages: Sequence[str], context: Context) -> Scores:
        """The logistic function of the model's logit for each passage, in their order.

        A passage is cut at its end to what the model reads together with the query. A score does not depend on the
        other passages: only pairs of equal length share a run, and each runs alone when the graph is not
        ``batch_invariant``. Raises ApiError 400 for an empty query and for one that takes more than half of what the
        model reads.
        """
        about = {"gen_ai.operation.name": "rerank", "gen_ai.request.model": self._name}
        with context.watch.span(f"rerank {self._name}", **about) as span:
            pairs = self._encoded(query, passages, context)
            lengths = [len(pair.ids) for pair in pairs]
            tokens = sum(lengths)
            scores = [0.0] * len(pairs)
            for places in batches(lengths, self._graph.rows, invariant=self._card.batch_invariant):
                context.check()
                batch = [pairs[place] for place in places]
                logits = self._graph.run([pair.ids for pair in batch], [pair.types for pair in batch]).values
                for place, logit in zip(places, logits, strict=True):
                    scores[place] = logistic(logit)
            span.set(**{"gen_ai.usage.input_tokens": tokens, "lsbuild.rerank.passages": len(pairs)})
        context.watch.count("gen_ai.client.token.usage", tokens, **about, **{"gen_ai.token.type": "input"})
        return Scores(tuple(scores), tokens)

    def _encoded(self, query: str, passages: Sequence[str], context: Context) -> list[Pair]:
        asked = self._pairs.query(query)
        count, most = len(asked.ids), self._pairs.longest_query
        if not count:
            raise ApiError(400, "query is empty", param="query")
        if count > most:
            raise ApiError(
                400,
                f"query has {count} tokens; model {self._name!r} reads at most {most} beside a passage; shorten it",
                param="query",
                code="context_length_exceeded",
            )
        found: list[Pair] = []
        for start in range(0, len(passages), _ENCODED):
            context.check()
            found += self._pairs.encode(asked, passages[start : start + _ENCODED])
        return found
