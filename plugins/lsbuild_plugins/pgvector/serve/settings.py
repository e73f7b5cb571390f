"""How the serve half reaches a database, as the manifest carries it with secrets filled in; it connects nowhere."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Fusion, SearchMode


class Settings(Struct, frozen=True, kw_only=True):
    """The service's ``config``; times in seconds, ``ef_search`` 0: measured. Holds a password: it is never shown."""

    schema: str
    index: Literal["hnsw", "none"]
    language: str
    connections: int
    connect_timeout: float
    statement_timeout: float
    search: SearchMode = "hybrid"
    fusion: Fusion = Fusion()
    min_recall: float = 0.95
    ef_search: int = 0
    dsn: str = ""
    host: str = ""
    port: int = 0
    database: str = ""
    user: str = ""
    password: str = ""
    sslmode: str = ""

    def __repr__(self) -> str:
        return f"Settings(schema={self.schema!r})"


def read(service: Service) -> Settings:
    """The settings of ``service``."""
    return msgspec.convert(service.config, Settings, strict=False)


def conninfo(settings: Settings) -> str:
    """What libpq connects with. A server that went away without a word is noticed after the connect time-out.

    ApiError 503 for a ``dsn`` that libpq cannot read; it repeats nothing of it, since passwords stand in it.
    """
    wait = settings.connect_timeout
    values: dict[str, Any] = {
        "fallback_application_name": "lsbuild",
        "connect_timeout": max(1, math.ceil(wait)),
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": max(1, round(wait * 1000)),
    }
    given: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "dbname": settings.database,
        "user": settings.user,
        "password": settings.password,
        "sslmode": settings.sslmode,
    }
    try:
        values |= conninfo_to_dict(settings.dsn)
        return make_conninfo("", **values, **{key: value for key, value in given.items() if value})
    except (psycopg.Error, TypeError, UnicodeError):
        message = (
            "config.dsn is no PostgreSQL connection string; it is written postgresql://USER:PASSWORD@HOST/DATABASE"
        )
        hint = "with every special character of the password as %XX"
        raise ApiError(503, f"{message}, {hint}", type="server_error", code="database_settings") from None
