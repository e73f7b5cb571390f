"""`remote::postgres` for the builder: checks the settings and declares the service; connects nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, config_problems
from lsbuild.spec.model import State
from lsbuild.spec.secret import Secret
from lsbuild.spec.units import Seconds

_SERVE = "lsbuild_plugins.postgres.serve"
_WHEELS = ("psycopg[binary]>=3.2",)
_PASSWORD = re.compile(r"//[^/@]*:[^/@]+@|password\s*=", re.IGNORECASE)


class Config(BaseModel):
    """Settings of the database under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: Secret | str
    """Where it is, as libpq reads it: ``postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full``. With a password in
    it it must be a secret: ``{secret: NAME}``."""
    schema_: str = Field(default="lsbuild", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """The PostgreSQL schema that holds the tables; servers that share one share responses and conversations."""
    lease: Seconds = Field(default=30.0, ge=1)
    """How long nothing may be heard of a server until another one goes on with its responses."""
    connections: int = Field(default=4, ge=1, le=256)
    """Connections that one server uses at most."""
    connect_timeout: Seconds = Field(default=5.0, gt=0)
    """Longest time to connect, and to notice that the database is gone."""
    statement_timeout: Seconds = Field(default=15.0, gt=0)
    """Longest time of one statement, and of waiting for a free connection."""

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: Secret | str) -> Secret | str:
        if isinstance(value, str) and _PASSWORD.search(value):
            raise ValueError("the url holds a password; write url: {secret: NAME} and set NAME where the artifact runs")
        return value


class PostgresPlugin(Plugin):
    """The compile half of `remote::postgres`."""

    provider = "remote::postgres"
    kinds = ("server",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``."""
        return config_problems(Config, _spec(item).config)

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002
        """One service, no step."""
        spec = _spec(item)
        config = Config.model_validate(spec.config).model_dump(by_alias=True)
        service = Service(
            api="state",
            name="responses",
            provider=item.provider,
            entry=f"{_SERVE}:open_records",
            config={**config, **spec.limits},
        )
        return Compiled(services=(service,), wheels=_WHEELS, code=(_SERVE,))


PLUGIN = PostgresPlugin()


def _spec(item: Item) -> State:
    return cast("State", item.spec)
