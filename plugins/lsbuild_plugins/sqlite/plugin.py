"""`inline::sqlite` for the builder: declares the service that keeps responses; keeping them is the runtime's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from pydantic import BaseModel, ConfigDict

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, config_problems
from lsbuild.spec.model import State

_WHEELS = ("apsw>=3.50", "multipart>=2,<3")
"""SQLite, and what reads the uploads that batches are made of."""


class Config(BaseModel):
    """It has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SqlitePlugin(Plugin):
    """The compile half of `inline::sqlite`."""

    provider = "inline::sqlite"
    kinds = ("server",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``."""
        return config_problems(Config, _spec(item).config)

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002
        """One service, no step."""
        spec = _spec(item)
        service = Service(
            api="state",
            name="responses",
            provider=item.provider,
            entry="lsbuild_runtime.responses.sqlite:open_records",
            config=spec.limits,
        )
        return Compiled(services=(service,), wheels=_WHEELS)


PLUGIN = SqlitePlugin()


def _spec(item: Item) -> State:
    return cast("State", item.spec)
