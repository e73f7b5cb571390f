"""Another server's POST /moderations as a shield; what cannot be read of its answer is never taken for harmless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from lsbuild_plugins.openai.serve.answers import Fault
from lsbuild_plugins.openai.serve.upstream import Upstream
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.safety import Action, Category, Where
from lsbuild_runtime.safety.judged import Judged, Mark, Settings, known

_CODES: Mapping[str, tuple[str, ...]] = {
    "harassment": (),
    "harassment/threatening": ("S1",),
    "hate": ("S10",),
    "hate/threatening": ("S1", "S10"),
    "illicit": ("S2",),
    "illicit/violent": ("S1", "S9"),
    "self-harm": ("S11",),
    "self-harm/instructions": ("S11",),
    "self-harm/intent": ("S11",),
    "sexual": ("S12",),
    "sexual/minors": ("S4",),
    "violence": ("S1",),
    "violence/graphic": ("S1",),
}
"""OpenAI's categories, with the codes of Llama Guard's taxonomy that are nearest."""
OTHER = "flagged"
"""The category of a text that the other side flags without saying why."""


class _Result(Struct):
    flagged: bool
    categories: dict[str, bool | None]
    category_scores: dict[str, float | None] = {}


class _Answer(Struct):
    """An error must not stand beside results, so it is read too."""

    results: list[_Result] = []
    error: Fault | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class _Config(Struct, frozen=True):
    thresholds: Mapping[str, float] = {}
    actions: Mapping[str, Action | Literal["off"]] = {}


class RemoteModerations:
    """Implements judged.Judge over an Upstream. ``model`` "" lets the other side choose."""

    def __init__(self, upstream: Upstream, model: str, thresholds: Mapping[str, float], off: frozenset[str]) -> None:
        self.upstream = upstream
        self._model = model
        self._thresholds = thresholds
        self._off = off

    def categories(self) -> tuple[Category, ...]:
        """See judged.Judge. The other side may name others too."""
        named = [Category(name, codes, (name,)) for name, codes in _CODES.items()]
        more = [Category(name) for name in (*self._thresholds, OTHER) if name not in _CODES]
        return tuple(each for each in (*named, *more) if each.name not in self._off)

    def judge(self, text: str, where: Where, context: Context) -> Sequence[Mark]:  # noqa: ARG002 - it is told all alike
        """See judged.Judge; ApiError as of Upstream, and 502 when the answer is not about one text."""
        body = {"input": text, **({"model": self._model} if self._model else {})}
        try:
            answer = self.upstream.whole("/moderations", body, _ANSWER, context)
        except ApiError as error:
            if error.status == 400 and error.code != "context_length_exceeded":  # the request is ours, not the client's
                raise self.upstream.broken(error.message) from error
            raise
        if len(answer.results) != 1:
            raise self.upstream.broken(f"{len(answer.results)} results for one text")
        return self._marks(answer.results[0])

    def _marks(self, result: _Result) -> list[Mark]:
        named = [name for name, flag in result.categories.items() if flag is not None]
        if missing := [name for name in self._thresholds if result.category_scores.get(name) is None]:
            raise self.upstream.broken(f"its answer has no score for {', '.join(missing)}")
        marks = [
            self._mark(name, result) for name in dict.fromkeys((*named, *self._thresholds)) if name not in self._off
        ]
        if result.flagged and not any(result.categories.values()):
            marks.append(Mark(OTHER, 1.0, OTHER not in self._off))
        return marks

    def _mark(self, name: str, result: _Result) -> Mark:
        flag = bool(result.categories.get(name))
        score = result.category_scores.get(name)
        score = float(flag) if score is None else min(max(score, 0.0), 1.0)
        return Mark(name, score, score >= self._thresholds[name] if name in self._thresholds else flag)


def open_moderations(service: Service, root: Path, host: Host) -> Judged:  # noqa: ARG001 - the entry's shape
    """The entry of such a shield."""
    config = msgspec.convert(service.config, _Config)
    model = str(service.config.get("model", ""))
    upstream = Upstream(replace(service, config={**service.config, "model": model}))
    off = frozenset(name for name, action in config.actions.items() if action == "off")
    judge = RemoteModerations(upstream, model, config.thresholds, off)
    actions = {name: action for name, action in config.actions.items() if action != "off"}
    settings = msgspec.convert({**known(service.config, "where", "every"), "actions": actions}, Settings)
    return Judged(service.name, judge, settings)
