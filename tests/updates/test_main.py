"""The command on the device: what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lsbuild.delivery import signing
from lsbuild_runtime.updates.main import main
from update_tools import Machine, tree

MakeUpdate = Callable[..., Path]


@pytest.fixture
def command(machine: Machine, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``command(words)``: exit code, stdout, stderr."""
    place = machine.place
    given = ("unit", place.unit), ("factory", place.factory), ("updates", place.root), ("settings", place.settings)
    words = [str(word) for name, value in (*given, ("environment", place.environment)) for word in (f"--{name}", value)]

    def run(*more: str | Path) -> tuple[int, str, str]:
        code = main([*words, *map(str, more)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def set_to(machine: Machine, **values: Any) -> None:
    path = machine.place.settings
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_new_device_says_what_serves(command: Callable[..., tuple[int, str, str]]) -> None:
    assert command("status") == (0, "tiny for linux-x86_64-cp311: what was installed serves\n", "")
    found = json.loads(command("status", "--json")[1])
    assert (found["ok"], found["product"], found["committed"]["version"], found["trial"]) == (True, "tiny", 0, None)


def test_the_exit_code_says_what_was_wrong(
    command: Callable[..., tuple[int, str, str]], machine: Machine, make_update: MakeUpdate, tmp_path: Path
) -> None:
    good = make_update(2)
    (tmp_path / "short.lsu").write_bytes(good.read_bytes()[:3000])
    foreign = make_update(3, key=signing.new(tmp_path / "other", ""))
    other = make_update(3, name="other")
    assert command("check", good) == (0, "version 2 can be applied\n", "")
    for source, code, why in (
        (tmp_path / "nothing.lsu", 3, "no such file"),
        (tmp_path / "short.lsu", 4, "truncated"),
        (foreign, 4, "this device trusts"),
        (other, 5, "is for other"),
    ):
        assert command("check", source)[0] == code
        found = json.loads(command("apply", source, "--json")[1])
        assert not found["ok"]
        assert why in found["error"]["message"]
    code, out, error = command("apply")
    assert (code, out) == (8, "")
    assert "set `url` in" in error
    assert command("rollback")[0] == 8
    assert command("commit")[0] == 8
    assert machine.files() == tree("0")


def test_fetch_brings_the_parts_of_the_address_in_the_settings(
    command: Callable[..., tuple[int, str, str]], machine: Machine, make_update: MakeUpdate
) -> None:
    set_to(machine, url=str(make_update(1, web=True)))
    code, out, error = command("fetch")
    assert (code, out) == (0, "version 1 is fetched; `apply` tries it\n")
    assert "fetched 0.0 of 0.0 MB" in error
    assert list((machine.place.incoming / "parts").iterdir())


def test_a_service_that_cannot_be_started_again_ends_the_trial(
    command: Callable[..., tuple[int, str, str]], machine: Machine, make_update: MakeUpdate
) -> None:
    update = make_update(1)
    for restart, why in ((["false"], "ended with code 1"), (["/no/such/program"], "cannot be started again")):
        set_to(machine, restart=restart)
        code, _, error = command("apply", update, "--again")
        assert (code, why in error) == (8, True), error
        assert machine.state().trial is None
    assert "was taken back" in command("status")[1]


def test_begin_never_keeps_a_service_from_starting(
    command: Callable[..., tuple[int, str, str]], machine: Machine
) -> None:
    assert command("begin") == (0, "", "")
    machine.place.root.mkdir()
    machine.place.state.write_text("not json")
    code, _, error = command("begin")
    assert (code, "is damaged" in error) == (0, True)
    (machine.place.factory / "manifest.json").write_text("{}")
    assert command("begin")[0] == 0


@pytest.mark.parametrize("words", [(), ("update",), ("apply", "--force"), ("status", "x")])
def test_words_that_it_does_not_know(command: Callable[..., tuple[int, str, str]], words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(*words)
