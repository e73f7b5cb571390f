"""`inline::rules` for the builder: declares the step and the service of a shield; reads and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, Step, config_problems
from lsbuild.declaring import RE2
from lsbuild.spec.model import Shield

_SERVE = "lsbuild_plugins.rules.serve"
_WHEELS = (RE2,)
SHIPPED = ("pii", "secrets", "prompt-injection", "profanity", "self-harm", "violence", "off-topic")
"""The packs that ship with lsbuild."""


class Config(BaseModel):
    """Settings of a shield under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    packs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Packs of rules: names of shipped ones (``pii``), and .yaml files relative to the spec."""
    actions: dict[str, Literal["block", "redact", "warn", "off"]] = {}
    """What a category of the packs leads to, instead of what the pack says; ``off`` leaves it out."""


class RulesPlugin(Plugin):
    """The compile half of `inline::rules`."""

    provider = "inline::rules"
    kinds = ("shields",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``, and packs that are neither shipped nor files."""
        if faults := config_problems(Config, _spec(item).config):
            yield from faults
            return
        packs = _config(item).packs
        for place, name in enumerate(packs):
            if name not in SHIPPED and not _is_file(name):
                known = ", ".join(SHIPPED)
                yield Problem(("config", "packs", place), f"'{name}' is neither a .yaml file nor one of {known}")
            if name in packs[:place]:
                yield Problem(("config", "packs", place), f"'{name}' is named twice")

    def sources(self, item: Item) -> Mapping[str, str]:
        """The packs that are files."""
        return {name: name for name in _config(item).packs if name not in SHIPPED}

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step that writes the compiled rules, one service."""
        config = _config(item)
        folder = f"shields/{item.name}"
        step = Step(
            name=f"shields.{item.name}.rules",
            run="lsbuild_plugins.rules.compile.step:run",
            options={"packs": list(config.packs), "actions": dict(config.actions)},
            sources={name: given.sources[name] for name in self.sources(item)},
            tools=("google-re2", "ruamel.yaml"),
            code=("lsbuild_plugins.rules",),
            ship=folder,
            part="app",
        )
        service = Service(
            api="safety",
            name=item.name,
            provider=item.provider,
            entry=f"{_SERVE}:open_shield",
            path=folder,
            metadata={"packs": [Path(name).name for name in config.packs]},
        )
        return Compiled(steps=(step,), services=(service,), wheels=_WHEELS, code=(_SERVE,))


PLUGIN = RulesPlugin()


def _spec(item: Item) -> Shield:
    return cast("Shield", item.spec)


def _config(item: Item) -> Config:
    return Config.model_validate(_spec(item).config)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))
