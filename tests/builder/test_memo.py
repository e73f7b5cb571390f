"""What steps remember: whole or not there, apart for each salt, safe with several writers, pruned with the objects."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lsbuild import facts
from lsbuild.api import Memo as Port
from lsbuild.api import Source, SourceFile, Step
from lsbuild.facts import Facts
from lsbuild.plan import plan
from lsbuild.running.engine_local import Local
from lsbuild.running.execute import execute
from lsbuild.running.memo import Memo, values
from lsbuild.running.monitor import Silent
from lsbuild.running.store import Store

CODE = "lsbuild_runtime.manifest"


def test_a_value_is_found_again_by_its_salt_and_key(tmp_path: Path) -> None:
    memo: Port = Memo(tmp_path, "s1")
    assert memo.get("a") is None
    memo.put("a", b"one")
    memo.put("a", b"two")
    memo.put("../../x\0", b"")
    assert (memo.get("a"), memo.get("../../x\0"), memo.get("b")) == (b"two", b"", None)
    assert Memo(tmp_path, "s2").get("a") is None
    assert {value.path.parents[1] for value in values(tmp_path)} == {tmp_path / "memo" / "s1"}


@pytest.mark.parametrize("torn", [b"", b"short", b"\0" * 40])
def test_a_damaged_value_is_no_value(tmp_path: Path, torn: bytes) -> None:
    memo = Memo(tmp_path, "s")
    memo.put("a", b"value")
    (value,) = values(tmp_path)
    value.path.write_bytes(torn)
    assert memo.get("a") is None
    memo.put("a", b"again")
    assert memo.get("a") == b"again"


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    memo = Memo(tmp_path, "s")
    memo.put("a", b"value")
    (value,) = values(tmp_path)
    content = bytearray(value.path.read_bytes())
    content[-1] ^= 1
    value.path.write_bytes(content)
    assert memo.get("a") is None


def test_a_place_that_cannot_be_written_forgets(tmp_path: Path) -> None:
    (tmp_path / "memo").write_text("a file")
    memo = Memo(tmp_path, "s")
    memo.put("a", b"value")
    assert memo.get("a") is None


WRITER = """
import sys
from pathlib import Path
from lsbuild.running.memo import Memo
memo = Memo(Path(sys.argv[1]), "s")
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    for key in "abc":
        memo.put(key, key.encode() * 5000)
        assert memo.get(key) == key.encode() * 5000
"""


def started(cache: Path, rounds: int) -> subprocess.Popen[str]:
    """A writer that has begun."""
    words = [sys.executable, "-c", textwrap.dedent(WRITER), str(cache), str(rounds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_several_writers_of_the_same_values(tmp_path: Path) -> None:
    writers = [started(tmp_path, 200) for _ in range(3)]
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(list(values(tmp_path))) == 3


def test_kill_at_any_moment_leaves_whole_values_only(tmp_path: Path) -> None:
    dice = random.Random(7)
    for _ in range(10):
        writer = started(tmp_path, 1_000_000)
        time.sleep(dice.uniform(0.02, 0.2))
        writer.kill()
        writer.communicate()
        memo = Memo(tmp_path, "s")
        for key in "abc":
            assert memo.get(key) in (None, key.encode() * 5000)
        for value in values(tmp_path):  # a value that a power cut would have torn is never where values are
            assert value.path.name.startswith(".") or value.size == 5032
    (tmp_path / "memo/s/00").mkdir(exist_ok=True)
    (tmp_path / "memo/s/00/.killed").touch()  # in the moment before its first byte
    assert Store(tmp_path).prune(keep_bytes=0) > 0
    assert list(values(tmp_path)) == []


def test_steps_remember_by_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "outside")
    store = Store(tmp_path / "cache")

    def told(names: str, **options: Any) -> Mapping[str, Any]:
        files = tuple(SourceFile(name, tmp_path, name * 64, 1) for name in names)
        step = Step("s", "echo_plugin.steps:remember", options=options, sources={"d": Source("d", files)})
        planned = plan([step], facts=facts.gather([step]), known=store.has, previous={})
        execute(planned, store, Silent(), Local(1))
        return store.meta(planned.steps[0].key).facts

    assert told("ab") == {"known": [], "cache": str(store.root)}
    assert told("bc")["known"] == ["b"]
    assert told("abc")["known"] == ["a", "b", "c"]
    assert told("ab", other=1)["known"] == []


def test_prune_takes_what_was_not_used_for_longest_and_clear_takes_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    memo = store.memo("s")
    for key in ("old", "read", "new"):
        memo.put(key, b"x" * 68)
    for value in values(tmp_path):
        os.utime(value.path, (1, 1))
    assert memo.get("read")
    memo.put("new", b"y" * 68)
    assert store.remembered() == (3, 300)
    assert store.prune(keep_bytes=250) == 100
    assert [memo.get(key) is None for key in ("old", "read", "new")] == [True, False, False]
    assert store.clear() == 200
    assert store.remembered() == (0, 0)


def salt(**rest: object) -> str:
    base = {"name": "s", "run": f"{CODE}:read", "code": (CODE,), "tools": ("t",), "options": {"a": 1, "label": "x"}}
    step = Step(**{**base, "forgets": ("label",), **rest})  # type: ignore[arg-type]
    version = "2" if rest.get("name") == "newer" else "1"
    planned = plan(
        [step], facts=Facts(code={CODE: "3"}, tools={"t": version}), known=lambda _: False, previous={}
    ).steps[0]
    assert planned.memo != planned.key
    return planned.memo


def test_the_salt_is_the_key_without_the_sources() -> None:
    file = SourceFile("a", Path("a"), "0", 1)
    assert salt() == salt(sources={"d": Source("a", (file,))})
    assert salt() == salt(options={"a": 1, "label": "y"})
    assert salt() == salt(name="other")
    assert len({salt(), salt(options={"a": 2}), salt(run=f"{CODE}:write"), salt(name="newer")}) == 4
