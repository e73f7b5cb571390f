"""`inline::tools` for the builder: declares the service of a calculator or a clock; nothing is compiled or fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict

from lsbuild.api import Compiled, Given, Item, Json, Plugin, Problem, Service, config_problems
from lsbuild.declaring import JSON_SCHEMA, one_tool, terms
from lsbuild.spec.model import Tool
from lsbuild_plugins.tools.serve import calculator, clock

_SERVE = "lsbuild_plugins.tools.serve"


class Config(BaseModel):
    """Settings of ``builtin: time`` under ``config``; the calculator has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    timezone: str = "UTC"
    """The zone that is meant when a call names none, such as ``Europe/Berlin``."""


class NoConfig(BaseModel):
    """The calculator's."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BuiltinTools(Plugin):
    """The compile half of `inline::tools`."""

    provider = "inline::tools"
    kinds = ("tools",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``, and a name that models cannot call."""
        spec = _spec(item)
        if spec.builtin is None:
            yield Problem(("provider",), "inline::tools needs 'builtin', which tool it is")
            return
        yield from one_tool(item, spec)
        faults = config_problems(Config if spec.builtin == "time" else NoConfig, spec.config)
        yield from faults
        zone = spec.config.get("timezone", "UTC")
        if spec.builtin == "time" and not faults and "${" not in zone and zone not in available_timezones():
            yield Problem(("config", "timezone"), f"'{zone}' is no time zone; write it like Europe/Berlin")

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002
        """One service; a clock brings the time zones, which small machines do not have."""
        spec = _spec(item)
        kind = spec.builtin or ""
        service = Service(
            api="tool_runtime",
            name=item.name,
            provider=item.provider,
            entry=f"{_SERVE}:open_{kind}",
            config=dict(spec.config),
            metadata={
                "tools": [item.name],
                # Numbers and dates are nobody's words: they cannot tell a run what to do.
                **terms(spec, sends="nothing", trusted=True),
                **({"description": spec.description} if spec.description else {}),
            },
        )
        wheels = (JSON_SCHEMA, *(("tzdata>=2025.1",) if kind == "time" else ()))
        return Compiled(services=(service,), wheels=wheels, code=(_SERVE,), functions=tuple(_functions(item)))


PLUGIN = BuiltinTools()


def _functions(item: Item) -> Iterator[Mapping[str, Json]]:
    """What a model is told of the tool: nothing is known of a clock whose zone the environment names."""
    spec = _spec(item)
    zone = spec.config.get("timezone", "UTC")
    if spec.builtin == "time" and "${" in zone:
        return
    described = {
        "calculator": (calculator.DESCRIPTION, calculator.PARAMETERS),
        "time": (clock.DESCRIPTION.format(zone=zone), clock.parameters(zone)),
    }
    description, parameters = described[spec.builtin or ""]
    yield {"name": item.name, "description": spec.description or description, "parameters": parameters}


def _spec(item: Item) -> Tool:
    return cast("Tool", item.spec)
