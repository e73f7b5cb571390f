"""What is said of programs that are missing, too old, or silent about their version."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild import toolbox
from lsbuild.toolbox import Tool


def program(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}")
    monkeypatch.setenv("LSBUILD_CACHE", f"{tmp_path}/cache")
    return tmp_path


@pytest.mark.parametrize(
    ("says", "number"),
    [
        ("qemu-aarch64 version 10.0.8 (Debian 1:10.0.8)", 10),
        ("systemd 257 (257.9-1)", 257),
        ("runc version 1.1.5+ds1", 1),
        ("no number", 0),
    ],
)
def test_the_major_version_is_read_from_what_programs_say(tmp_path: Path, says: str, number: int) -> None:
    assert toolbox.major(str(program(tmp_path, "tool", says))) == number


def test_a_missing_program_is_named_with_what_it_is_for_and_how_to_get_it(here: Path) -> None:
    tool = Tool("no-such-tool", "does something", "apt-get install it")
    assert tool.fault() == "no no-such-tool here, which does something; apt-get install it"


def test_one_that_is_too_old_is_named_with_both_versions(here: Path) -> None:
    path = program(here, "emu", "emu version 7.2.22")
    tool = Tool("emulator", "emulates", "apt-get install emu", ("emu",), oldest=10)
    assert tool.fault() == f"emulator 7 here ({path}), and 10 or newer is needed; apt-get install emu"
    program(here, "emu", "hello")
    assert "does not tell its version" in tool.fault()
    program(here, "emu", "emu 10.1")
    assert tool.fault() == ""


def test_every_tool_of_the_table_says_how_to_get_it() -> None:
    tools = [value for value in vars(toolbox).values() if isinstance(value, Tool)]
    assert len(tools) > 10
    for tool in tools:
        assert tool.what[0].islower()
        assert any(word in tool.get for word in ("apt-get install", "pip install", "see "))


def test_a_fetched_qemu_is_taken_when_the_machine_s_own_is_too_old(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSBUILD_CACHE", str(here / "cache"))
    monkeypatch.setattr(toolbox, "on_path", lambda name: str(here / name) if (here / name).exists() else "")
    assert "lsbuild doctor --fetch" in toolbox.QEMU_USER.fault()
    own = program(here, "qemu-aarch64", "qemu-aarch64 version 7.2.22")
    assert str(own) in toolbox.QEMU_USER.fault()
    (here / "cache" / "tools").mkdir(parents=True)
    brought = program(here / "cache" / "tools", "qemu-aarch64", "qemu-aarch64 version 10.0.13")
    assert (toolbox.QEMU_USER.fault(), toolbox.QEMU_USER.path()) == ("", str(brought))
    program(here, "qemu-aarch64", "qemu-aarch64 version 11.1.0")
    assert toolbox.QEMU_USER.path() == str(own)
