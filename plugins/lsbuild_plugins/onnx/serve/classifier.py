"""The entry of a shield that is a classifier: opens its folder and judges texts; it keeps no state between calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.batches import batches
from lsbuild_plugins.onnx.serve.folder import read_folder
from lsbuild_plugins.onnx.serve.labels import Label, categories, meanings
from lsbuild_plugins.onnx.serve.provider_settings import Texts
from lsbuild_plugins.onnx.serve.session import Opened, open_for, reason
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_plugins.onnx.serve.windows import Windows
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.safety import Category, Where
from lsbuild_runtime.safety.judged import Judged, Mark, Outcome, Settings, known

Doubles = NDArray[np.float64]


def open_classifier(service: Service, root: Path, host: Host) -> Judged:
    """Open the model folder ``root/service.path``; raises ApiError 503 naming what is wrong with it.

    ``service.config``: ``labels`` (see `labels`), ``where``, ``every``, ``threads``, ``execution``.
    """
    folder = root / service.path
    card, tokenizer = read_folder(service, folder)
    if not isinstance(card, model_format.Classifier):
        raise unavailable(service.name, "model.json describes another kind of model; a classifier was expected")
    opened = open_for(service, folder / "model.onnx", host, Texts(card.inputs, card.max_tokens))
    differ = {value.name for value in opened.session.get_inputs()} ^ set(card.inputs)
    if differ:
        raise unavailable(service.name, f"the graph's inputs differ from model.json: {', '.join(sorted(differ))}")
    labels = meanings(card.labels, service.config.get("labels", {}))
    settings = msgspec.convert(known(service.config, "where", "every"), Settings)
    outcomes = {label.category: Outcome(label.action, label.message) for label in labels.values()}
    return Judged(service.name, TextClassifier(service.name, card, tokenizer, opened, labels), settings, outcomes)


class TextClassifier:
    """Implements judged.Judge. Thread-safe: onnxruntime runs one session from many threads."""

    def __init__(
        self,
        name: str,
        card: model_format.Classifier,
        tokenizer: Tokenizer,
        opened: Opened,
        labels: Mapping[int, Label],
    ) -> None:
        self._name = name
        self._card = card
        self._windows = Windows(tokenizer, card.max_tokens)
        self._session = opened.session
        self._rows = opened.rows
        self.placement = opened.placement
        self._labels = labels

    def categories(self) -> tuple[Category, ...]:
        """See judged.Judge."""
        return categories(self._labels)

    def judge(self, text: str, where: Where, context: Context) -> Sequence[Mark]:  # noqa: ARG002 - it reads all alike
        """See judged.Judge. Of a text in several windows the highest score of each label counts."""
        scores = self.scores(text, context)
        marks: dict[str, Mark] = {}
        for place, label in self._labels.items():
            score = float(scores[place])
            earlier = marks.get(label.category, Mark(label.category, 0.0, False))
            marks[label.category] = Mark(
                label.category, max(earlier.score, score), earlier.found or score >= label.threshold
            )
        return tuple(marks.values())

    def scores(self, text: str, context: Context) -> Doubles:
        """f64[labels], each the highest of all windows."""
        windows = self._windows.of(text)
        best = np.zeros(len(self._card.labels))
        about = {"gen_ai.operation.name": "classify", "gen_ai.request.model": self._name}
        with context.watch.span(f"classify {self._name}", **about) as span:
            for places in batches(
                [len(window) for window in windows], self._rows, invariant=self._card.batch_invariant
            ):
                context.check()
                best = np.maximum(best, self._run([windows[place] for place in places]).max(axis=0))
            span.set(**{"gen_ai.usage.input_tokens": sum(map(len, windows)), "lsbuild.windows": len(windows)})
        return best

    def _run(self, batch: Sequence[tuple[int, ...]]) -> Doubles:
        ids = np.array(batch, np.int64)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones(ids.shape, self._card.mask),
            "token_type_ids": np.zeros_like(ids),
        }
        try:
            (output,) = self._session.run([self._card.output], {name: feeds[name] for name in self._card.inputs})
        except Exception as error:
            raise unavailable(self._name, f"onnxruntime failed: {reason(error)}") from error
        logits = np.asarray(output, np.float64)
        if not np.isfinite(logits).all():
            raise unavailable(self._name, "the model gave logits that are not finite")
        return scored(logits, self._card)


def scored(logits: Doubles, card: model_format.Classifier) -> Doubles:
    """Logits [B, labels] as scores in 0..1."""
    if card.scores == "sigmoid":
        found: Doubles = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
        return found
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Doubles = powers / powers.sum(axis=1, keepdims=True)
    return shares
