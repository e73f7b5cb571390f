"""The table of targets in the README: what its rows say of builds and checks, and where it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import targets


def check(artifact: str, name: str, state: str = "proved", detail: str = "") -> dict[str, Any]:
    return {"artifact": f"/b/{artifact}", "name": name, "ok": state != "failed", "state": state, "detail": detail}


REPORTS: dict[str, dict[str, Any]] = {
    "host": {"artifact": {"packed": {}, "media": "folder", "size": 152_700_000}},
    "rpi": {"artifact": {"packed": {"lsbuild-q_1.0.0_arm64.deb": 57_000_000}, "media": "x", "size": 1}},
}
FOUND: dict[str, Any] = {
    "checks": [
        check("host", "boot", detail="healthy after 1.12 s"),
        check("host", "agents helper", "skipped", "not asked: it could do something with its tools"),
        check("rpi", "boot", detail="healthy after 9 s (chroot, Debian for arm64, QEMU 10 as cortex-a72)"),
        check("rpi", "unit", "skipped", "no systemd-analyze here, which judges; apt-get install systemd"),
        check("rpi", "not proved", "unproved", "the board itself"),
        check("rpi", "sd_notify", "failed", "nothing was heard"),
    ],
    "boots": [
        {"artifact": "/b/host", "place": "host x86_64", "cold_start_ms": 650.4, "memory": 108_000_000},
        {"artifact": "/b/rpi", "place": "rpi aarch64", "cold_start_ms": None, "memory": None},
    ],
    "agreement": [
        {
            "service": "inference chat",
            "reference": "host x86_64",
            "place": "rpi aarch64",
            "ok": True,
            "agreement": "equal",
        },
        {
            "service": "embeddings embed",
            "reference": "host x86_64",
            "place": "rpi aarch64",
            "ok": True,
            "agreement": "cosine 0.99987 (another processor)",
        },
    ],
}


def test_a_row_says_what_was_proved_how_and_what_was_not() -> None:
    _, _, host, rpi, _, last = targets.table(REPORTS, FOUND).split("\n")
    assert host == "| `host` | folder 152.7 MB | 1 checks; booted: by its own `run` | 650 CPU-ms, 108 MB | - | - |"
    assert rpi == (
        "| `rpi` | .deb 57.0 MB | 1 checks; booted: chroot, Debian for arm64, QEMU 10 as cortex-a72; FAILED sd_notify "
        "| - | unit: no systemd-analyze here, which judges | the board itself |"
    )
    assert last.startswith(
        "The same questions, asked of host x86_64 and rpi aarch64: 1 answers are equal, vectors have "
    )
    assert "a cosine of at least 0.99987. Measured on " in last


def test_it_is_written_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{targets.BEGIN}\nold\n{targets.END}\nafter\n")
    targets.write(page, "new")
    assert page.read_text() == f"before\n{targets.BEGIN}\n\nnew\n\n{targets.END}\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(SystemExit, match="has no"):
        targets.write(page, "new")


def test_the_readme_has_the_marks() -> None:
    text = (targets.ROOT / "README.md").read_text()
    assert text.index(targets.BEGIN) < text.index(targets.END)
