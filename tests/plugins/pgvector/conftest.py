"""What the tests of the shared store have in common: one real server, and a schema for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pg_place import DATABASE, Place

from postgres_server import Postgres, running


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with running() as started:
        with psycopg.connect(started.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        yield started


@pytest.fixture
def place(server: Postgres, tmp_path: Path) -> Iterator[Place]:
    """A schema of its own, with nothing in it."""
    made = Place(server, tmp_path)
    yield made
    made.close()
    with made.connect() as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{made.schema}" CASCADE')
