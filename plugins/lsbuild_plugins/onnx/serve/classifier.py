"""The entry of a shield that is a classifier: opens its folder and judges texts; it keeps no state between calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.batches import batches
from lsbuild_plugins.onnx.serve.folder import read_folder
from lsbuild_plugins.onnx.serve.labels import Label, categories, meanings
from lsbuild_plugins.onnx.serve.pairs import logistic
from lsbuild_plugins.onnx.serve.tensor import rows
from lsbuild_plugins.onnx.serve.text_graph import TextGraph, open_text_graph
from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_plugins.onnx.serve.windows import Windows
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.safety import Category, Where
from lsbuild_runtime.safety.judged import Judged, Mark, Outcome, Settings, known


def open_classifier(service: Service, root: Path, host: Host) -> Judged:
    """Open the model folder ``root/service.path``; raises ApiError 503 naming what is wrong with it.

    ``service.config``: ``labels`` (see `labels`), ``where``, ``every``, ``threads``, ``execution``.
    """
    folder = root / service.path
    card, tokenizer = read_folder(service, folder)
    if not isinstance(card, model_format.Classifier):
        raise unavailable(service.name, "model.json describes another kind of model; a classifier was expected")
    graph = open_text_graph(service, folder, card, host)
    labels = meanings(card.labels, service.config.get("labels", {}))
    settings = msgspec.convert(known(service.config, "where", "every"), Settings)
    outcomes = {label.category: Outcome(label.action, label.message) for label in labels.values()}
    return Judged(service.name, TextClassifier(service.name, card, tokenizer, graph, labels), settings, outcomes)


class TextClassifier:
    """Implements judged.Judge. Thread-safe: onnxruntime runs one session from many threads."""

    def __init__(
        self,
        name: str,
        card: model_format.Classifier,
        tokenizer: Tokenizer,
        graph: TextGraph,
        labels: Mapping[int, Label],
    ) -> None:
        self._name = name
        self._card = card
        self._windows = Windows(tokenizer, card.max_tokens)
        self._graph = graph
        self.placement = graph.placement
        self._labels = labels

    def categories(self) -> tuple[Category, ...]:
        """See judged.Judge."""
        return categories(self._labels)

    def judge(self, text: str, where: Where, context: Context) -> Sequence[Mark]:  # noqa: ARG002 - it reads all alike
        """See judged.Judge. Of a text in several windows the highest score of each label counts."""
        scores = self.scores(text, context)
        marks: dict[str, Mark] = {}
        for place, label in self._labels.items():
            score = scores[place]
            earlier = marks.get(label.category, Mark(label.category, 0.0, False))
            marks[label.category] = Mark(
                label.category, max(earlier.score, score), earlier.found or score >= label.threshold
            )
        return tuple(marks.values())

    def scores(self, text: str, context: Context) -> list[float]:
        """One for each label of the model, each the highest of all windows."""
        windows = self._windows.of(text)
        best = [0.0] * len(self._card.labels)
        about = {"gen_ai.operation.name": "classify", "gen_ai.request.model": self._name}
        with context.watch.span(f"classify {self._name}", **about) as span:
            for places in batches(
                [len(window) for window in windows], self._graph.rows, invariant=self._card.batch_invariant
            ):
                context.check()
                for logits in rows(self._graph.run([windows[place] for place in places])):
                    best = list(map(max, best, self._scored(logits)))
            span.set(**{"gen_ai.usage.input_tokens": sum(map(len, windows)), "lsbuild.windows": len(windows)})
        return best

    def _scored(self, logits: Sequence[float]) -> list[float]:
        if not all(map(math.isfinite, logits)):
            raise unavailable(self._name, "the model gave logits that are not finite")
        return scored(logits, self._card)


def scored(logits: Sequence[float], card: model_format.Classifier) -> list[float]:
    """The logits of one text, one for each label, as scores in 0..1."""
    if card.scores == "sigmoid":
        return [logistic(logit) for logit in logits]
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]
