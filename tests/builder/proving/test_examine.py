"""Artifacts of a target that boots a real little server in this process: what is compared, what is measured, what fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from platform import machine

import msgspec
import pytest
from click.testing import CliRunner

from live_server import serving
from lsbuild import cli, registry, verify
from lsbuild.api import Check, Manifest
from lsbuild.gates import COLD_START, RUNNING
from lsbuild.proving import cold_start
from lsbuild_runtime.app import App
from lsbuild_runtime.manifest import FILE_NAME, Service, from_json, to_json
from scripted import Step, scripted
from small_services import LETTERS, PARROT, small_manifest

OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}[machine()]


class Little:
    """Artifacts are folders with a manifest; they are served by this process."""

    name = "little"

    def manifests(self, artifact: Path) -> tuple[Manifest, ...]:
        path = artifact / FILE_NAME
        return (from_json(path.read_bytes()),) if path.exists() else ()

    def verify(self, artifact: Path, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
        app = App(from_json((artifact / FILE_NAME).read_bytes()), artifact)
        with serving(app) as base:
            yield Check("boot", True)
            yield from ask(base)
        yield Check.unproved("the moon")


TARGET = Little()


@pytest.fixture(autouse=True)
def only_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "target_names", lambda: ("little",))
    monkeypatch.setattr(registry.Registry, "target", lambda *_: TARGET)


MakeArtifact = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> MakeArtifact:
    def artifact(name: str, *services: Service, arch: str = machine(), **build: object) -> Path:
        manifest = msgspec.structs.replace(
            small_manifest(services), platform=f"linux-{arch}-cp311", target="little", build=build
        )
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE_NAME).write_bytes(to_json(manifest))
        return tmp_path / name

    return artifact


def test_the_same_artifact_twice_agrees_with_itself(make: MakeArtifact) -> None:
    found = verify.verify([make("a", PARROT), make("b", PARROT)])
    assert [(row.service, row.place, row.agreement.said) for row in found.rows] == [
        (f"inference {PARROT.name}", f"little {machine()} (b)", "equal")
    ]
    assert found.wrong == []
    text = verify.to_text(found)
    assert "1 answers agree" in text
    assert "2 unproved" in text


def test_another_answer_is_a_fault_that_names_service_and_place(make: MakeArtifact) -> None:
    other = scripted(PARROT.name, Step(text="nothing of the kind"))
    found = verify.verify([make("a", PARROT), make("b", other)])
    assert len(found.wrong) == 1
    assert found.wrong[0].startswith(f"inference {PARROT.name} of little {machine()} (b): ")
    assert "NOT THE SAME" in verify.to_text(found)


def cold(found: verify.Verified) -> Check:
    (check,) = [check for check in found.checks if check.name == "cold start"]
    return check


@pytest.mark.parametrize(("limit", "state"), [(1000.0, "proved"), (250.0, "failed"), (None, "proved")])
def test_the_budget_of_the_spec_is_held_against_what_was_measured(
    make: MakeArtifact, monkeypatch: pytest.MonkeyPatch, limit: float | None, state: str
) -> None:
    measured = iter([cold_start.Used(200, 30_000_000), cold_start.Used(900, 107_000_000)])
    monkeypatch.setattr(cold_start, "used", lambda *_: next(measured))
    build = {} if limit is None else {RUNNING: {COLD_START: limit}}
    check = cold(verify.verify([make("a", LETTERS, **build)]))
    assert check.state == state
    said = "900 CPU-ms, 200 of them to health, 700 for the first embedding; 107 MB"
    assert check.detail.startswith(said)
    assert ("largest are" in check.detail) == (state == "failed")


def test_nothing_is_claimed_of_a_process_that_cannot_be_seen(make: MakeArtifact) -> None:
    """This process listens itself and has no children that count."""
    assert cold(verify.verify([make("a", PARROT, **{RUNNING: {COLD_START: 0.001}})])).state == "skipped"


def test_emulated_code_is_not_measured(make: MakeArtifact) -> None:
    check = cold(verify.verify([make("a", PARROT, arch=OTHER)]))
    assert check.state == "skipped"
    assert "QEMU's time" in check.detail


def test_none_is_booted_when_one_is_no_artifact(make: MakeArtifact, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = CliRunner().invoke(cli.main, ["verify", str(make("a", PARROT)), str(tmp_path / "nothing")])
    assert done.exit_code == 9
    assert "proved" not in done.output
    assert "not an artifact of lsbuild" in done.output


def test_the_command_gives_states_counts_and_agreement(make: MakeArtifact) -> None:
    one, two = make("a", PARROT), make("b", PARROT)
    done = CliRunner().invoke(cli.main, ["verify", str(two), "--against", str(one), "--json"])
    assert done.exit_code == 0, done.output
    body = json.loads(done.output)
    assert body["ok"] is True
    assert body["counts"]["failed"] == 0
    assert {check["artifact"] for check in body["checks"]} == {str(one), str(two)}
    assert [row["ok"] for row in body["agreement"]] == [True]
    strict = CliRunner().invoke(cli.main, ["verify", str(one), "--strict", "--json"])
    assert strict.exit_code == 9  # the cold start was skipped
    assert json.loads(strict.output)["ok"] is False
