"""Shields of `remote::openai` for the builder: checks the settings of another server's moderations and declares a service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from lsbuild.api import Item, Problem, Service, config_problems
from lsbuild.spec.judging import Action, CategoryName, Judging
from lsbuild.spec.model import Shield
from lsbuild.spec.units import Seconds
from lsbuild_plugins.openai.connecting import SERVE, Connection, faults_of

_COST = 2
"""Another server is asked after what runs here, and before a judge."""
_OTHERS = ("source", "quantize", "model")


class Config(Judging, Connection):
    """Settings of another server's moderations under ``config``."""

    every: Annotated[int, Field(ge=40, le=100_000)] | Literal["whole"] = 800
    """How a stream is looked at: in pieces of sentences with at most that many characters, or as a whole at its end."""
    timeout: Seconds = 10.0
    """Longest silence of the other side."""
    thresholds: dict[CategoryName, Annotated[float, Field(gt=0, le=1)]] = Field(default={})
    """The score from which on a category counts, instead of what the other side calls flagged."""
    actions: dict[CategoryName, Action | Literal["off"]] = Field(default={})
    """What a category leads to; ``off`` leaves it out. Default: ``block``."""


class Shields:
    """The part of the plugin that is for shields."""

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``, and keys of other providers."""
        spec = _spec(item)
        for key in _OTHERS:
            if getattr(spec, key) is not None:
                hint = "; the model's name over there is config.model" if key == "model" else ""
                yield Problem((key,), f"'{key}' is not for remote::openai{hint}")
        if faults := config_problems(Config, spec.config):
            yield from faults
            return
        yield from faults_of(Config.model_validate(spec.config))

    def service(self, item: Item) -> Service:
        """The one service."""
        config = Config.model_validate(_spec(item).config)
        names = set(Connection.model_fields) | {"thresholds", "actions"}
        settings: dict[str, Any] = config.model_dump(include=names, exclude_none=True, exclude_defaults=True)
        return Service(
            api="safety",
            name=item.name,
            provider="remote::openai",
            entry=f"{SERVE}.moderations:open_moderations",
            config={**settings, "timeout": config.timeout, **config.shared()},
            metadata={"cost": _COST, **({"provider_resource_id": config.model} if config.model else {})},
        )


SHIELDS = Shields()


def _spec(item: Item) -> Shield:
    return cast("Shield", item.spec)
