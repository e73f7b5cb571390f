"""Budgets of what is packed and of how it starts: what is refused, with which numbers, and what stands there afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lsbuild import gates, verify
from lsbuild.api import Artifact, Bundle, Check, FileEntry, GateError, Platform, VerifyError
from lsbuild.packing.place import new_folder
from lsbuild.proving.comparison import Row
from lsbuild.spec.model import Budgets
from small_services import small_manifest


def budgets(**limits: str) -> Budgets:
    return Budgets.model_validate(limits)


def bundle() -> Bundle:
    entries = [
        FileEntry(path=f"{part}/x", sha256="0", size=size, part=part) for part, size in (("model", 9), ("app", 2))
    ]
    manifest = replace(small_manifest(), files=tuple(entries))
    return Bundle(Platform("x86_64", "3.11"), manifest, ())


class Folders:
    """A target whose artifacts are folders with a file ``mark``."""

    def manifests(self, artifact: Path) -> tuple[Any, ...]:
        return (1,) if (artifact / "mark").exists() else ()

    def pack(self, out: Path, text: str) -> Artifact:
        with new_folder(out, lambda path: bool(self.manifests(path))) as folder:
            (folder / "mark").write_text(text)
        return Artifact(out, "0", len(text), "folder", {"the package": len(text)})


Pack = Callable[[str, Budgets], Artifact]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    target: Any = Folders()

    def packed(text: str, limits: Budgets) -> Artifact:
        with gates.nothing_replaced(limits, target, tmp_path / "out"):
            artifact: Artifact = target.pack(tmp_path / "out", text)
            gates.check_packed(limits, artifact, (bundle(),))
        return artifact

    return packed


def test_what_is_packed_too_large_is_refused_with_numbers_and_components(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"the package is 0\.0 MB packed") as caught:
        pack("too large", budgets(packed="4B"))
    assert caught.value.where == "budgets.packed"
    assert "model 0.0 MB, app 0.0 MB" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_older_artifact_stands_there_again(pack: Pack, tmp_path: Path) -> None:
    pack("old", budgets(packed="4B"))
    with pytest.raises(GateError):
        pack("too large", budgets(packed="4B"))
    assert (tmp_path / "out" / "mark").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    pack("new", budgets(packed="4B"))
    assert (tmp_path / "out" / "mark").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_somebody_else_is_never_touched(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(Exception, match="not an artifact"):
        pack("x", budgets(packed="4B"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_start_s_budget_travels_in_the_manifest_and_only_then() -> None:
    assert gates.running(budgets()) == {}
    assert gates.running(budgets(cold_start="250ms")) == {gates.RUNNING: {gates.COLD_START: 250.0}}


class Looked:
    """What ``verify`` found of one artifact."""

    def __init__(self, *checks: Check) -> None:
        self.checks = list(checks)
        self.boots: list[Any] = []


def found(*checks: Check, rows: tuple[Row, ...] = ()) -> verify.Verified:
    looked: Any = Looked(*checks)
    return verify.Verified((looked,), rows)


def test_a_late_start_alone_is_a_missed_budget_anything_else_a_failed_check() -> None:
    late = Check("amd64 cold start", False, "900 CPU-ms; the budget is 250")
    assert isinstance(verify.fault(found(late)), GateError)
    assert isinstance(verify.fault(found(late, Check("boot", False))), VerifyError)
    assert verify.fault(found(Check("boot", True), Check.skipped("unit", "no systemd"))) is None
    strict = verify.fault(found(Check("boot", True), Check.skipped("unit", "no systemd")), strict=True)
    assert isinstance(strict, VerifyError)
    assert "no systemd" in strict.what
