"""Shields of `inline::onnx` for the builder: declares the compile step and the service of a classifier of texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Compiled, Given, Item, Problem, Service, Step, config_problems
from lsbuild.spec.judging import Action, CategoryName, Judging
from lsbuild.spec.model import Shield
from lsbuild_plugins.onnx.parts import COMPILE, READ, SERVE, TOOLS, WHEELS, default_format, fitted_to

_COST = 1
"""A classifier is asked after rules and before other servers."""


class Label(BaseModel):
    """What one label of the model means."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    category: CategoryName
    """The category that it stands for; several labels may share one."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """The score from which on it counts."""
    action: Action = "block"
    """What it leads to."""
    message: str = ""
    """What a user is told."""
    llama_guard: tuple[Annotated[str, Field(pattern=r"^S([1-9]|1[0-4])$")], ...] = ()
    """Codes of Llama Guard's taxonomy that it is part of."""
    openai: tuple[str, ...] = ()
    """OpenAI's moderation categories that it is part of."""


class Config(Judging):
    """Settings of a classifier under ``config``."""

    labels: dict[str, Label] = Field(default={})
    """The model's labels that matter, by name. Default: those whose names say what they mean (``INJECTION``, ``toxic``)."""
    scores: Literal["softmax", "sigmoid"] | None = None
    """How its logits become scores. Default: ``sigmoid`` for several labels at a time or one alone, else ``softmax``."""
    context: int | None = Field(default=None, ge=16, le=8192)
    """Tokens of one window. Default: what the model was made for."""
    threads: int | str | None = None
    """Threads of one run; ``${env.X}`` is read at start. Default: the CPUs the process may use."""
    export: bool | str = False
    """As of a model."""


class Shields:
    """The part of the plugin that is for shields."""

    def check(self, item: Item) -> Iterable[Problem]:
        """A missing source, unknown settings, keys of other providers."""
        spec = _spec(item)
        if not spec.source:
            yield Problem(("source",), "inline::onnx needs a source: a folder, hf://ORG/NAME@REVISION, a .onnx file")
        if spec.model is not None:
            yield Problem(("model",), "is for inline::llm-judge; a classifier has its weights in 'source'")
        if (spec.source or "").endswith(".onnx") and spec.quantize not in (None, "none"):
            yield Problem(("quantize",), "an .onnx file is taken as it is: leave quantize out")
        yield from config_problems(Config, spec.config)

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step and one service."""
        spec, config = _spec(item), Config.model_validate(_spec(item).config)
        folder = f"shields/{item.name}"
        step = Step(
            name=f"shields.{item.name}.graph",
            run=f"{COMPILE}.classify:classifier",
            options={
                "quantize": spec.quantize or default_format("classifier", given.providers),
                "explicit": spec.quantize is not None,
                "context": config.context,
                "export": config.export,
                "labels": sorted(config.labels),
                "scores": config.scores,
                **fitted_to(given.providers),
            },
            sources={"weights": given.sources["weights"]},
            tools=TOOLS,
            code=(COMPILE, *READ),
            ship=folder,
        )
        settings = {"threads": config.threads} if config.threads is not None else {}
        labels = {name: label.model_dump(exclude_defaults=True) for name, label in config.labels.items()}
        service = Service(
            api="safety",
            name=item.name,
            provider=item.provider,
            entry=f"{SERVE}.classifier:open_classifier",
            path=folder,
            config={"labels": labels, **config.shared(), **settings},
            metadata={"cost": _COST},
        )
        return Compiled((step,), (service,), WHEELS, (SERVE,))


SHIELDS = Shields()


def _spec(item: Item) -> Shield:
    return cast("Shield", item.spec)
