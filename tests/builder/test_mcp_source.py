"""The definitions of an MCP server as a locked source: asked once, then from the cache, and never another set of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lsbuild import lock as locks
from lsbuild.errors import OfflineError, SourceError
from lsbuild.lock import Lock
from lsbuild.running.monitor import Silent
from lsbuild.sources import resolve

SERVER = Path(__file__).parents[1] / "plugins" / "mcp" / "odd_server.py"


def uri(how: str) -> str:
    return f"mcp:odd{json.dumps({'command': [sys.executable, '-I', str(SERVER), '${env.HOW:=' + how + '}']})}"


def found(uri: str, lock: Lock, cache: Path, *, offline: bool = False) -> Lock:
    got = resolve([uri], root=Path("/"), lock=lock, cache=cache, offline=offline, locked=False, monitor=Silent())
    return lock.merged(got)


def test_a_server_is_asked_once_and_then_as_the_lock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = found(uri(""), Lock(), tmp_path / "a")
    (entry,) = lock.sources.values()
    assert list(entry.files) == ["definitions.json"] and b"evil.example" not in locks.to_json(lock)
    monkeypatch.setenv("HOW", "ends")  # it would not answer any more
    assert found(uri(""), lock, tmp_path / "a", offline=True) == lock
    with pytest.raises(OfflineError, match="the definitions of its tools are not in the cache"):
        found(uri(""), lock, tmp_path / "b", offline=True)


def test_another_set_of_definitions_is_not_taken_for_the_locked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = found(uri(""), Lock(), tmp_path / "a")
    monkeypatch.setenv("HOW", "changed")
    with pytest.raises(SourceError, match=r"not those that lsbuild.lock has the hash of"):
        found(uri(""), lock, tmp_path / "b")
    assert found(uri(""), Lock(), tmp_path / "b") != lock
