"""What keeps responses, in the spec: who is asked for, what the runtime is told, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item
from lsbuild.build import state_item
from lsbuild.errors import SpecError
from lsbuild.spec.load import load
from lsbuild.spec.model import Agent, Server, Spec, State
from lsbuild_plugins.postgres.plugin import PLUGIN as POSTGRES
from lsbuild_plugins.sqlite.plugin import PLUGIN as SQLITE

AGENTS = {"helper": Agent(model="chat")}
URL = {"url": {"secret": "STATE_URL"}}


def item(provider: str, **fields: Any) -> Item:
    """The section of a spec."""
    return Item("server", "state", provider, State(provider=provider, **fields), Path("spec"))


def test_agents_are_reason_enough_to_keep_responses() -> None:
    root = Path("spec")
    assert state_item(Spec(), root) == []
    (found,) = state_item(Spec(agents=AGENTS), root)
    assert (found.path, found.provider) == (("server", "state"), "inline::sqlite")
    assert state_item(Spec(agents=AGENTS, server=Server(state=State(provider="none"))), root) == []
    (asked,) = state_item(Spec(server=Server(state=State(days=2))), root)
    assert asked.spec == State(days=2)


def test_sqlite_ships_itself_and_the_limits() -> None:
    made = SQLITE.compile(item("inline::sqlite", days=7, size="1MiB", queue=5, deadline="1m"), Given({}))
    (service,) = made.services
    assert (service.api, service.name, service.entry) == (
        "state",
        "responses",
        "lsbuild_runtime.responses.sqlite:open_records",
    )
    assert service.config == {"days": 7, "bytes": 1 << 20, "queue": 5, "deadline": 60.0}
    assert "apsw>=3.50" in made.wheels
    assert not list(SQLITE.check(item("inline::sqlite")))
    assert [problem.path for problem in SQLITE.check(item("inline::sqlite", config={"file": "x"}))] == [
        ("config", "file")
    ]


def test_postgres_ships_its_driver_and_no_password() -> None:
    asked = item("remote::postgres", config={**URL, "lease": "1m", "schema": "shared"})
    assert not list(POSTGRES.check(asked))
    made = POSTGRES.compile(asked, Given({}))
    (service,) = made.services
    assert service.config == {
        "url": {"secret": "STATE_URL"}, "schema": "shared", "lease": 60.0, "connections": 4, "connect_timeout": 5.0,
        "statement_timeout": 15.0, "days": 30, "bytes": 1 << 30, "queue": 100, "deadline": 1800.0,
    }  # fmt: skip
    assert (made.wheels, made.code) == (("psycopg[binary]>=3.2",), ("lsbuild_plugins.postgres.serve",))


@pytest.mark.parametrize(
    ("config", "path", "words"),
    [
        ({}, ("config", "url"), "required"),
        ({"url": "postgresql://me:secret@db/x"}, ("config", "url"), "holds a password"),
        ({**URL, "schema": "a b"}, ("config", "schema"), "pattern"),
        ({**URL, "lease": "10ms"}, ("config", "lease"), "greater than or equal"),
        ({**URL, "other": 1}, ("config", "other"), "Extra"),
    ],
)
def test_faults_of_the_config(config: dict[str, Any], path: tuple[str, ...], words: str) -> None:
    (problem,) = POSTGRES.check(item("remote::postgres", config=config))
    assert tuple(map(str, problem.path[:2])) == path
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("state: {provider: 'inline::sqlit'}", ("server", "state", "provider"), "Did you mean 'inline::sqlite'"),
        ("state: {days: 0}", ("server", "state", "days"), "at least 1"),
        ("state: {keep: 3}", ("server", "state", "keep"), "unknown key"),
    ],
)
def test_faults_of_the_section_name_their_place(tmp_path: Path, text: str, where: tuple[str, ...], words: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"server: {{{text}}}\n")
    with pytest.raises(SpecError) as caught:
        load(spec, environ={})
    (problem,) = caught.value.problems
    assert problem.path == where
    assert words in problem.message
