"""What the tests of shared responses have in common: one real server, and a schema for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from lsbuild_runtime.manifest import Service
from postgres_server import Postgres, running

CONFIG = {
    "schema": "", "lease": 1.0, "connections": 4, "connect_timeout": 5.0, "statement_timeout": 15.0, "days": 30, "bytes": 1 << 30,
    "queue": 100, "deadline": 60.0,
}  # fmt: skip


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """The server."""
    with running() as started:
        yield started


@pytest.fixture
def state(server: Postgres) -> Iterator[Service]:
    """The service, in a schema with nothing in it."""
    schema = f"s{os.urandom(6).hex()}"
    config: dict[str, Any] = {**CONFIG, "schema": schema, "url": server.dsn("postgres")}
    service = Service(
        api="state", name="responses", provider="remote::postgres", entry="lsbuild_plugins.postgres.serve:open_records"
    )
    yield replace(service, config=config)
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
