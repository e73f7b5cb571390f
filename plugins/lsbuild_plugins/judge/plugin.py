"""`inline::llm-judge` for the builder: checks the settings and declares a service; nothing is compiled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, config_problems
from lsbuild.spec.judging import Action, CategoryName, Judging
from lsbuild.spec.model import Shield

_SERVE = "lsbuild_plugins.judge.serve"
_COST = 3
"""A judge costs a generation: it is asked last."""
Code = Annotated[str, Field(pattern=r"^S([1-9]|1[0-4])$")]
USUAL = tuple(f"S{number}" for number in range(1, 14))
"""What Llama Guard looks for when nobody says otherwise; S14 (abuse of a code interpreter) is for agents that run code."""


class Custom(BaseModel):
    """A category of your own."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    description: Annotated[str, Field(min_length=1, max_length=2000)]
    """What the model is told about it, in a sentence or two."""
    message: str = ""
    """What a user is told."""
    openai: tuple[str, ...] = ()
    """OpenAI's moderation categories that it is part of."""


class Config(Judging):
    """Settings of a judge under ``config``."""

    every: Annotated[int, Field(ge=40, le=100_000)] | Literal["whole"] = "whole"
    """How a stream is looked at: as a whole at its end, or in pieces of sentences with at most that many characters."""
    categories: tuple[Code, ...] = USUAL
    """Codes of Llama Guard's taxonomy that it looks for."""
    custom: dict[CategoryName, Custom] = Field(default={})
    """Categories of your own by name; the model knows them as S15 and on."""
    actions: dict[str, Action] = Field(default={})
    """What a category leads to, by code or by name. Default: ``block``."""
    template: Literal["written", "own"] = "written"
    """Who writes the task: ``written`` sends it as the message of a user, ``own`` sends the bare text to a model whose chat
    template writes it."""
    characters: int = Field(default=6000, ge=200, le=200_000)
    """Characters that are judged at a time; longer texts are judged in parts that overlap."""


class Judge(Plugin):
    """The compile half of `inline::llm-judge`."""

    provider = "inline::llm-judge"
    kinds = ("shields",)

    def check(self, item: Item) -> Iterable[Problem]:
        """A missing model, unknown settings, keys of other providers."""
        spec = _spec(item)
        if not spec.model:
            yield Problem(("model",), "inline::llm-judge needs a model: a key of 'models' with type: llm")
        for key in ("source", "quantize"):
            if getattr(spec, key) is not None:
                yield Problem((key,), f"'{key}' is for inline::onnx; a judge asks the model it names")
        if faults := config_problems(Config, spec.config):
            yield from faults
            return
        config = Config.model_validate(spec.config)
        if not config.categories and not config.custom:
            yield Problem(("config", "categories"), "there is nothing to look for")
        if config.template == "own" and (config.custom or config.categories != USUAL):
            yield Problem(("config", "template"), "the model's own template names the categories; leave yours out")
        known = {*config.categories, *config.custom}
        for name in config.actions:
            if name not in known:
                yield Problem(
                    ("config", "actions", name), f"it does not look for '{name}'; it does for {', '.join(known)}"
                )

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """Its model."""
        model = _spec(item).model
        return (("models", model),) if model else ()

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002
        """One service, which needs the model's."""
        spec, config = _spec(item), Config.model_validate(_spec(item).config)
        settings: dict[str, Any] = {
            "model": spec.model,
            "categories": list(config.categories),
            "custom": {name: each.model_dump(exclude_defaults=True) for name, each in config.custom.items()},
            "actions": dict(config.actions),
            "template": config.template,
            "characters": config.characters,
            **config.shared(),
        }
        service = Service(
            api="safety",
            name=item.name,
            provider=item.provider,
            entry=f"{_SERVE}:open_judge",
            config=settings,
            metadata={"cost": _COST, "provider_resource_id": spec.model},
            needs=(f"inference/{spec.model}",),
        )
        return Compiled(services=(service,), code=(_SERVE,))


PLUGIN = Judge()


def _spec(item: Item) -> Shield:
    return cast("Shield", item.spec)
