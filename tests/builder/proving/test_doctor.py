"""What doctor says of this machine, of programs, and of what strangers installed; it never ends in a traceback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lsbuild import cli, registry
from lsbuild.proving import doctor, machine
from lsbuild.proving.machine import Finding


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.main, ["doctor", *words])


def found(*targets: str) -> dict[tuple[str, str], Finding]:
    return {(each.area, each.name): each for each in doctor.examine(targets)}


def test_this_machine_can_build() -> None:
    done = run("--json")
    body = json.loads(done.output)
    assert done.exit_code == 0, [each for each in body["findings"] if each["verdict"] == "fault"]
    assert body["ok"] is True
    assert {"python", "machine", "boots", "plugins", "targets", "tools"} == {each["area"] for each in body["findings"]}
    text = run().output
    assert "nothing stops builds" in text


def test_a_target_restricts_the_programs() -> None:
    assert [name for area, name in found("host") if area == "tools"] == []
    tools = {name for area, name in found("rpi") if area == "tools"}
    assert "systemd-analyze" in tools
    assert "podman" not in tools
    done = run("--target", "contaner")
    assert (done.exit_code, "container" in done.output) == (7, True)


def test_a_missing_program_says_what_it_is_for_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("lsbuild.toolbox.on_path", lambda _: "")
    podman = found("container")["tools", "podman"]
    assert podman.verdict == "missing"
    assert podman.said == "no podman here, which runs images as containers (for container)"
    assert podman.remedy == "apt-get install podman"


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "strange_good.py").write_text(
        "class P:\n    provider = 'inline::good'\n    kinds = ('models',)\n    check = compile = print\nPLUGIN = P()\n"
    )
    (tmp_path / "strange_half.py").write_text("class T:\n    name = 'half'\nTARGET = T()\n")
    (tmp_path / "strange_bad.py").write_text("raise RuntimeError('no luck')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = {
        "lsbuild.plugins": {"inline::good": "strange_good:PLUGIN", "inline::bad": "strange_bad:PLUGIN"},
        "lsbuild.targets": {"half": "strange_half:TARGET", "gone": "strange_gone:TARGET"},
    }
    monkeypatch.setattr(registry, "_entries", lambda group: entries[group])
    for name in ("strange_good", "strange_half", "strange_bad"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("strangers")
def test_third_party_ones_are_listed_and_broken_ones_are_faults() -> None:
    findings = found()
    assert findings["plugins", "inline::good"].verdict == "ok"
    bad = findings["plugins", "inline::bad"]
    assert (bad.verdict, bad.said) == ("fault", "strange_bad:PLUGIN cannot be loaded: RuntimeError: no luck")
    assert "has no wheels" in findings["targets", "half"].said
    assert "strange_gone" in findings["targets", "gone"].said
    done = run()
    assert done.exit_code == 1
    assert "3 faults that stop builds" in done.output


def test_a_cache_that_cannot_be_written_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSBUILD_CACHE", "/proc/1/no-such-place")
    cache = found("host")["machine", "cache folder"]
    assert cache.verdict == "fault"
    assert "LSBUILD_CACHE" in cache.remedy


def test_traps_of_podman_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "_capabilities", lambda: 1 << 18 | 1 << 21)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (256, 512))
    findings = {each.name: each for each in machine.kernel()}
    assert "--ulimit nofile=1024:1024" in findings["CAP_SYS_RESOURCE"].remedy
    assert findings["open files"].verdict == "missing"
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    assert {each.name: each for each in machine.kernel()}["user"].verdict == "missing"


def test_the_network_is_asked_only_when_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setattr(
        doctor.debian_archive, "mirrors", lambda: doctor.debian_archive.Mirrors("http://127.0.0.1:9/debian")
    )
    assert not any(each.area == "network" for each in doctor.examine(["host"]))
    told = {each.name: each for each in doctor.examine(["host"], network=True)}
    assert told["package index"].verdict == "fault"
    assert told["Debian archive"].verdict == "missing"
