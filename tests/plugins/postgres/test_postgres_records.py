"""`remote::postgres` keeps the contract of records against a real PostgreSQL; its leases and its faults are its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec.structs import replace

from live_server import eventually
from lsbuild_plugins.postgres.serve.store import PostgresStore, read
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.responses.records import Records
from lsbuild_runtime.responses.sql import SqlRecords
from postgres_server import PASSWORD, Postgres
from records_contract import Open, RecordsContract, kept, step


@pytest.fixture
def records(state: Service) -> Iterator[Open]:
    """Opens the schema of this test."""
    made: list[Records] = []

    def opened(at: float = 1_000.0, **limits: Any) -> Records:
        settings = read(replace(state, config={**state.config, **limits}))
        made.append(SqlRecords(PostgresStore(settings), settings.limits(), lambda: at))
        return made[-1]

    yield opened
    for each in made:
        each.close()


class TestPostgres(RecordsContract):
    """`remote::postgres`."""


def test_who_is_not_heard_of_for_a_lease_has_lost_its_responses(records: Open) -> None:
    one, other = records(), records()
    one.begin(kept("r1"), "a")
    assert other.take("b") is None
    assert eventually(other.waiting, 10)
    one.renew("a")  # heard of again before anybody took it
    assert not other.waiting()
    assert eventually(other.waiting, 10)
    found = other.take("b")
    assert found is not None
    assert found.id == "r1"
    assert not one.step("r1", "a", step(1))


def test_a_restart_of_the_database_leaves_no_trace(records: Open, server: Postgres) -> None:
    one = records()
    one.begin(kept("r1"), "a")
    server.stop("immediate")
    with pytest.raises(ApiError) as caught:
        one.get("r1")
    assert caught.value.status == 503
    assert caught.value.message.startswith("the database of responses ")
    server.start()
    assert eventually(lambda: _there(one), 10)


def _there(records: Records) -> bool:
    try:
        return records.get("r1") is not None
    except ApiError:
        return False


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://nobody@127.0.0.1:1/x", "refused the connection"),
        ("no url at all", "config.url is no PostgreSQL connection string"),
    ],
)
def test_an_address_that_is_none(state: Service, url: str, said: str) -> None:
    settings = read(replace(state, config={**state.config, "url": url}))
    with pytest.raises(ApiError, match=said) as caught:
        SqlRecords(PostgresStore(settings), settings.limits(), lambda: 0.0).get("r1")
    assert caught.value.status == 503


def test_a_wrong_password_is_told_and_never_shown(state: Service, server: Postgres) -> None:
    settings = read(replace(state, config={**state.config, "url": server.dsn("postgres", "wrong-secret")}))
    with pytest.raises(ApiError, match="refused the login") as caught:
        SqlRecords(PostgresStore(settings), settings.limits(), lambda: 0.0).get("r1")
    assert "wrong-secret" not in caught.value.message
    assert PASSWORD not in repr(read(state))


def test_a_database_of_a_newer_runtime_is_refused(records: Open, state: Service, server: Postgres) -> None:
    records().get("r1")
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"UPDATE {state.config['schema']}.responses_schema SET version = 9")  # noqa: S608
    with pytest.raises(ApiError, match="has tables of version 9"):
        records().get("r1")


def test_the_manifest_carries_the_settings(state: Service) -> None:
    settings = read(msgspec.json.decode(msgspec.json.encode(state), type=Service))
    assert (settings.limits().lease, settings.limits().queue, settings.dsn) == (1.0, 100, state.config["url"])
