"""What goes wrong with a database: clear refusals without secrets, nothing half done, and work again without a restart."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from store_contract import found, given

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.mutable import MutableVectorIO
from postgres_server import PASSWORD, USER, Postgres

HERE = Path(__file__).parent


def refused(store: MutableVectorIO) -> ApiError:
    with pytest.raises(ApiError) as error:
        store.info()
    told = "".join(traceback.format_exception(error.value))
    assert PASSWORD not in told
    assert "p%40ss" not in told
    assert error.value.status == 503
    assert error.value.retry_after
    return error.value


@pytest.mark.parametrize(
    ("dsn", "code", "said"),
    [
        ("postgresql://u:{password}@127.0.0.1:1/d", "database_unreachable", "refused the connection"),
        ("postgresql://u:{password}@no-such-host.invalid/d", "database_unreachable", "cannot be resolved"),
        ("postgresql://{user}:wrong@127.0.0.1:{port}/tests", "database_login", "check user and password"),
        ("postgresql://{user}@127.0.0.1:{port}/tests", "database_unreachable", "needs a password"),
        ("postgresql://{user}:{password}@127.0.0.1:{port}/nothing", "database_login", "does not know the database"),
        ("postgresql://{user}:{password}@127.0.0.1:{port}/tests?sslmode=require", "database_unreachable", "sslmode"),
        ("postgresql:///tests?host=/nowhere", "database_unreachable", "no socket"),
    ],
)
def test_why_there_is_no_connection_is_told(place: Any, dsn: str, code: str, said: str) -> None:
    server = place.server
    error = refused(place.open(dsn=dsn.format(user=USER, password=PASSWORD, port=server.port)))
    assert (error.code, said in error.message) == (code, True), error.message


@pytest.mark.parametrize(
    "dsn", [f"postgresql//u:{PASSWORD}@h/d", f"u:{PASSWORD}", f"postgresql://u:{PASSWORD}@h/d?no_such={PASSWORD}"]
)
def test_a_dsn_that_cannot_be_read_is_not_repeated(place: Any, dsn: str) -> None:
    with pytest.raises(ApiError, match="postgresql://USER:PASSWORD@HOST/DATABASE") as error:
        place.open(dsn=dsn)
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


def test_a_password_with_an_at_sign_is_not_taken_for_a_host_and_told(place: Any) -> None:
    error = refused(place.open(dsn=f"postgresql://u:x@{PASSWORD}.invalid@127.0.0.1:1/d"))
    assert PASSWORD not in error.message


def test_opening_reaches_no_network(place: Any) -> None:
    place.open(dsn="postgresql://u:p@127.0.0.1:1/d")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_restarts_is_found_again_and_has_kept_everything(place: Any, server: Postgres, mode: str) -> None:
    store = place.open()
    for number in range(5):
        store.put(*given(f"file-{number}", f"The pump {number}."))
    server.stop(mode)
    try:
        with pytest.raises(ApiError) as error:
            store.put(*given("file-x", "The pump x."))
        assert (error.value.status, error.value.code) == (503, "database_unreachable")
        assert refused(store).code == "database_unreachable"
    finally:
        server.start()
    assert store.info().files == 5
    store.put(*given("file-6", "The pump 6."))
    assert len(found(store, "pump")) == 6


def test_a_cut_connection_is_replaced(place: Any) -> None:
    store = place.open()
    store.put(*given("file-a", "The pump."))
    with place.connect() as other:
        other.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'lsbuild'")
    assert found(store, "pump") == ["The pump."]


def test_what_is_locked_is_refused_in_time_and_served_afterwards(place: Any) -> None:
    store = place.open(statement_timeout=0.3)
    store.put(*given("file-a", "The pump."))
    with place.connect() as other, other.transaction():
        other.execute("LOCK TABLE files_1 IN ACCESS EXCLUSIVE MODE")
        assert refused(store).code in ("database_timeout", "database_busy")
    assert store.info().files == 1


def test_a_full_disk_is_507_and_nothing_changes(place: Any) -> None:
    """PostgreSQL's own error, raised at the moment when the document's passages are written."""
    store = place.open()
    store.put(*given("file-a", "The pump."))
    with place.connect() as other:
        other.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END$$"
        )
        other.execute("CREATE TRIGGER fails BEFORE INSERT ON passages_1 EXECUTE FUNCTION full_disk()")
        with pytest.raises(ApiError) as error:
            store.put(*given("file-a", "The valve."))
        assert (error.value.status, error.value.code) == (507, "disk_full")
        assert found(store, "pump") == ["The pump."]
        other.execute("DROP TRIGGER fails ON passages_1")
    store.put(*given("file-a", "The valve."))
    assert found(store, "pump valve") == ["The valve."]


def test_a_database_that_takes_no_writes_says_so(place: Any) -> None:
    store = place.open(dsn=place.dsn + "?options=-c%20default_transaction_read_only%3Don")
    with place.connect():
        assert refused(store).code == "database_read_only"


def test_a_user_who_may_not_create_the_extension_is_told_who_may(place: Any, server: Postgres) -> None:
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE bare")
        admin.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    store = place.open(dsn=server.dsn("bare").replace(USER, "plain", 1))
    error = refused(store)
    assert (error.code, "let an administrator run CREATE EXTENSION vector" in error.message) == (
        "database_extension",
        True,
    )
    with psycopg.connect(server.dsn("bare"), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
    assert refused(store).code == "database_permission"
    with psycopg.connect(server.dsn("bare"), autocommit=True) as admin:
        admin.execute("GRANT CREATE ON DATABASE bare TO plain")
    store.put(*given("file-a", "The pump."))
    assert found(store, "pump") == ["The pump."]


def test_tables_of_another_version_are_refused(place: Any) -> None:
    place.open().info()
    with place.connect() as other:
        other.execute("UPDATE version SET number = 9")
    error = refused(place.open())
    assert (error.code, "version 9" in error.message) == ("database_schema", True)


def test_more_threads_than_connections_wait_their_turn(place: Any) -> None:
    store = place.open(connections=2)
    store.put(*given("file-a", "The pump."))
    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(lambda _: found(store, "pump") == ["The pump."], range(60)))
    with place.connect() as other:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lsbuild' AND query LIKE '%passages_1%'"
        assert other.execute(query).fetchone() in [(1,), (2,)]


def test_twenty_search_while_one_inserts(place: Any) -> None:
    """Every answer is a state that was there: a document with all its passages or without any."""
    store = place.open(connections=20)
    store.put(*given("file-0", *(f"The pump 0 {part}." for part in range(4))))

    def look(_: int) -> int:
        seen = 0
        for _ in range(10):
            texts = found(store, "the pump", mode="keyword", limit=1000)
            assert len(texts) % 4 == 0
            assert len(texts) // 4 >= seen
            seen = len(texts) // 4
            assert len(found(store, "the pump", limit=8)) >= 4
        return seen

    with ThreadPoolExecutor(21) as threads:
        writer = threads.submit(
            lambda: [
                store.put(*given(f"file-{n}", *(f"The pump {n} {part}." for part in range(4)))) for n in range(1, 30)
            ]
        )
        assert all(threads.map(look, range(20)))
        writer.result()
    assert store.info().chunks == 120


WRITER = """
import sys
turn, dsn, schema, *paths = sys.argv[1:]
sys.path[:0] = paths
from pg_place import numbered, opened
store = opened(dsn, schema)
number = 0
while True:
    name = f"file-{turn}-{number}"
    store.put(*numbered(name, [f"The pump {name} {part}." for part in range(8)]))
    print(name, flush=True)
    number += 1
"""


def test_kill_9_loses_nothing_that_was_acknowledged_and_leaves_nothing_half(place: Any) -> None:
    store = place.open()
    store.info()
    chance = random.Random(7)
    paths = [str(HERE), str(HERE.parent / "sqlite_vec"), str(HERE.parents[1])]
    acknowledged: set[str] = set()
    for turn in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(turn), place.dsn, place.schema, *paths],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout
        lines = [writer.stdout.readline()]
        time.sleep(chance.uniform(0.0, 0.2))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines(keepends=True)
        writer.wait()
        writer.stdout.close()
        acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
    stored = {file.file_id: file.passages for file in store.files()}
    assert acknowledged
    assert acknowledged <= set(stored)
    assert set(stored.values()) == {8}
    assert store.info().chunks == 8 * len(stored)
    with place.connect() as other:
        assert other.execute("SELECT count(*) FROM passages_1").fetchone() == (8 * len(stored),)


@pytest.mark.parametrize(
    "hostile",
    [
        "'; DROP TABLE files_1; --",
        '"; DROP SCHEMA public CASCADE; --',
        "%(vector)s %s {}",
        "$1",
        "\\'; SELECT pg_sleep(10); --",
        "a\0b",
        "' & | ! <-> :*",
        "x" * 2000,
    ],
)
def test_nothing_that_a_client_writes_becomes_sql(place: Any, hostile: str) -> None:
    store = place.open()
    text = f"The pump {hostile} end"
    store.put(*given(hostile, text, name=hostile, attributes={hostile: hostile, "n": 1}))
    store.put(*given("file-b", "The valve."))
    for mode in ("vector", "keyword", "hybrid"):
        for key, value in (("filename", hostile), (hostile, hostile)):
            filters = {"type": "eq", "key": key, "value": value}
            (hit,) = store.search(f"pump {hostile}", Context(), mode=mode, filters=filters)
            assert hit.attributes["n"] == 1
            negative = {"type": "nin", "key": key, "value": [value]}
            assert "The valve." in found(store, f"valve {hostile}", mode=mode, filters=negative)
    assert store.set_attributes(hostile, {hostile: 2})
    assert store.passages(hostile)[0].text[:9] == "The pump "
    assert store.remove(hostile)
    assert store.info().files == 1


def test_a_lone_surrogate_is_in_no_document(place: Any) -> None:
    store = place.open()
    store.put(*given("file-a", "The pump."))
    assert found(store, "pump \ud800", filters={"type": "ne", "key": "a\ud800", "value": "\ud800"}) == ["The pump."]
    assert store.file("file-\ud800") is None


def test_an_id_that_is_too_long_for_the_database_is_400(place: Any) -> None:
    store = place.open()
    long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20000))
    with pytest.raises(ApiError) as error:
        store.put(*given(long, "The pump."))
    assert (error.value.status, error.value.code) == (400, "too_long")
    assert store.info().files == 0
