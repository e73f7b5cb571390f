"""Where a database is, as the manifest carries it with secrets filled in; it connects nowhere."""

from __future__ import annotations

import math
from typing import Any

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lsbuild_runtime.http import ApiError


class Address(Struct, frozen=True, kw_only=True):
    """How to connect: either ``dsn``, or ``host`` with what belongs to it; times in seconds. Holds a password: it is never
    shown."""

    connections: int
    connect_timeout: float
    statement_timeout: float
    dsn: str = ""
    host: str = ""
    port: int = 0
    database: str = ""
    user: str = ""
    password: str = ""
    sslmode: str = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def conninfo(address: Address, name: str = "dsn") -> str:
    """What libpq connects with. A server that went away without a word is noticed after the connect time-out.

    ApiError 503 for a ``dsn`` (which the spec calls ``name``) that libpq cannot read; it repeats nothing of it, since
    passwords stand in it.
    """
    wait = address.connect_timeout
    values: dict[str, Any] = {
        "fallback_application_name": "lsbuild",
        "connect_timeout": max(1, math.ceil(wait)),
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": max(1, round(wait * 1000)),
    }
    given: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "dbname": address.database,
        "user": address.user,
        "password": address.password,
        "sslmode": address.sslmode,
    }
    try:
        values |= conninfo_to_dict(address.dsn)
        return make_conninfo("", **values, **{key: value for key, value in given.items() if value})
    except (psycopg.Error, TypeError, UnicodeError):
        message = (
            f"config.{name} is no PostgreSQL connection string; it is written postgresql://USER:PASSWORD@HOST/DATABASE"
        )
        hint = "with every special character of the password as %XX"
        raise ApiError(503, f"{message}, {hint}", type="server_error", code="database_settings") from None
