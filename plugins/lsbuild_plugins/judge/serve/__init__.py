"""`inline::llm-judge` at run time: asks a language model of the bundle about a text; it keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from lsbuild_plugins.judge.serve import guard
from lsbuild_plugins.judge.serve.guard import HAZARDS, OTHER, Hazard, Unreadable
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Behind, Chat, Inference, Sampling
from lsbuild_runtime.safety import Action, Category, Where
from lsbuild_runtime.safety.judged import Judged, Mark, Outcome, Settings, known


class _Custom(Struct, frozen=True):
    description: str
    message: str = ""
    openai: tuple[str, ...] = ()


class _Config(Struct, frozen=True):
    model: str
    categories: tuple[str, ...]
    custom: Mapping[str, _Custom] = {}
    actions: Mapping[str, Action] = {}
    template: Literal["written", "own"] = "written"
    characters: int = 6000


class LlmJudge:
    """Implements judged.Judge over ``model``, which is asked without the shields before it: it would ask itself."""

    def __init__(
        self, name: str, model: Inference, hazards: Sequence[Hazard], *, written: bool = True, characters: int = 6000
    ) -> None:
        self._name = name
        self._model = model
        self._hazards = {hazard.code: hazard for hazard in hazards}
        self._written = written
        self._characters = characters

    def categories(self) -> tuple[Category, ...]:
        """See judged.Judge."""
        return (*(hazard.category for hazard in self._hazards.values()), OTHER)

    def judge(self, text: str, where: Where, context: Context) -> Sequence[Mark]:
        """See judged.Judge. ApiError 502 when the model's answer cannot be read: then nobody has looked at the text."""
        found: dict[str, None] = {}
        for part in parts(text, self._characters):
            context.check()
            for code in self._asked(part, where, context) or ():
                hazard = self._hazards.get(code)
                found[hazard.category.name if hazard is not None else OTHER.name] = None
        return [
            Mark(category.name, float(category.name in found), category.name in found) for category in self.categories()
        ]

    def _asked(self, text: str, where: Where, context: Context) -> tuple[str, ...] | None:
        sampling = Sampling(temperature=0.0, max_tokens=guard.ANSWER_TOKENS)
        answer = ""
        for delta in self._model.chat(Chat(self._messages(text, where), sampling, stream=False), context):
            answer += delta.text
        try:
            return guard.read(answer)
        except Unreadable as error:
            raise ApiError(502, f"judge {self._name!r}: {error}", type="server_error", code="upstream_error") from error

    def _messages(self, text: str, where: Where) -> list[dict[str, Any]]:
        if self._written:
            return [{"role": "user", "content": guard.task(text, where, tuple(self._hazards.values()))}]
        said = guard.tamed(text)
        if guard.speaker(where) == "User":
            return [{"role": "user", "content": said}]
        # Templates want turns to alternate, and judge the last one.
        return [{"role": "user", "content": "(not shown)"}, {"role": "assistant", "content": said}]


def parts(text: str, most: int) -> Iterator[str]:
    """``text`` in parts of at most ``most`` characters, each sharing an eighth with the one before it."""
    step = most - most // 8
    for start in range(0, max(len(text) - most // 8, 1), step):
        yield text[start : start + most]


def open_judge(service: Service, root: Path, host: Behind) -> Judged:  # noqa: ARG001 - the shape of every serve half
    """The entry: the judge of a service's config, over the model that it names."""
    config = msgspec.convert(service.config, _Config)
    hazards = [HAZARDS[code] for code in config.categories]
    own = [
        Hazard(f"S{number}", name.replace("-", " ").title(), Category(name, openai=each.openai), each.description)
        for number, (name, each) in enumerate(config.custom.items(), len(HAZARDS) + 1)
    ]
    judge = LlmJudge(
        service.name,
        host.bare("inference", config.model),
        [*hazards, *own],
        written=config.template == "written",
        characters=config.characters,
    )
    outcomes = {name: Outcome(message=each.message) for name, each in config.custom.items()}
    names = {hazard.code: hazard.category.name for hazard in hazards}
    settings = Settings(
        actions={names.get(key, key): action for key, action in config.actions.items()},
        **known(service.config, "every"),
        where=tuple(service.config["where"]),
    )
    return Judged(service.name, judge, settings, outcomes)
