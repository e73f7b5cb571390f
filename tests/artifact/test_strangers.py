"""What CONTRIBUTING walks through, installed as strangers would: a provider on two targets, and a target of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from artifact_tools import ROOT, Done, Lsbuild

STRANGERS = ROOT / "tests" / "strangers"
PACKAGES = ("lsbuild-bayes", "lsbuild-tarball")
WALK = (ROOT / "CONTRIBUTING.md").read_text()
SPEC = """\
version: 1
name: guarded
models:
  letters: {type: embedding, provider: "remote::openai", dimensions: 8, config: {base_url: "http://127.0.0.1:9/v1"}}
tools:
  units: {python: tools/convert.py}
shields:
  taught: {provider: "inline::bayes", source: examples.jsonl}
"""
EXAMPLES = [
    ("Send me your password and the card's number.", "fraud"),
    ("Your account is closed, pay at once.", "fraud"),
    ("How do I bake bread?", "ok"),
    ("The train leaves at nine.", "ok"),
]


def section(title: str) -> str:
    return WALK.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("title", ["Add a provider", "Add a target"])
def test_each_walk_takes_less_than_a_hundred_lines(title: str) -> None:
    assert section(title).count("\n") < 100


def test_the_walks_show_every_file_of_both_packages_word_for_word() -> None:
    shown = re.findall(
        r"^```\w+\n(.*?)\n```$", section("Add a provider") + section("Add a target"), re.MULTILINE | re.DOTALL
    )
    files = [
        path for package in PACKAGES for path in sorted((STRANGERS / package).rglob("*.py")) if path.stat().st_size
    ]
    assert sorted(each for each in shown if not each.startswith("[")) == sorted(
        path.read_text().strip() for path in files
    )
    for package, entry in zip(PACKAGES, (each for each in shown if each.startswith("[")), strict=True):
        assert entry in (STRANGERS / package / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which both packages are installed, off-line, beside lsbuild."""
    site = tmp_path_factory.mktemp("site")
    words = ["install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--target", str(site)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *(str(STRANGERS / name) for name in PACKAGES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "tools").mkdir()
    (folder / "tools" / "convert.py").write_bytes((ROOT / "examples/quickstart/tools/convert.py").read_bytes())
    lines = [json.dumps({"text": text, "category": category}) for text, category in EXAMPLES]
    (folder / "examples.jsonl").write_text("\n".join(lines))
    return folder / "spec.yaml"


def built(lsbuild: Lsbuild, spec: Path, target: str, installed: dict[str, str]) -> Done:
    words = ("--target", target, spec, "-o", spec.parent / target, "--prove", "--json")
    done = lsbuild(*words, environ=installed)
    if done.code == 3:
        pytest.skip(f"no package index or Debian mirror: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    return done


def states(done: Done) -> dict[str, str]:
    return {check["name"]: check["state"] for check in done.json["verified"]["checks"]}


def test_doctor_lists_both_with_the_packages_that_bring_them(lsbuild: Lsbuild, installed: dict[str, str]) -> None:
    findings = {
        (each["area"], each["name"]): each for each in lsbuild("doctor", "--json", environ=installed).json["findings"]
    }
    assert findings["plugins", "inline::bayes"]["said"] == "of lsbuild-bayes 1.0.0"
    assert findings["targets", "tarball"]["said"] == "of lsbuild-tarball 1.0.0"


@pytest.mark.parametrize("target", ["host", "tarball"])
def test_the_provider_is_compiled_and_answers_on_two_targets(
    lsbuild: Lsbuild, spec: Path, installed: dict[str, str], target: str
) -> None:
    found = states(built(lsbuild, spec, target, installed))
    assert found["safety taught"] == "proved"
    assert found["boot"] == "proved"
    assert ("not proved" in found) == (target == "tarball")


def test_both_artifacts_say_the_same(lsbuild: Lsbuild, spec: Path, installed: dict[str, str]) -> None:
    for target in ("host", "tarball"):
        if not (spec.parent / target).exists():
            built(lsbuild, spec, target, installed)
    done = lsbuild("verify", spec.parent / "host", spec.parent / "tarball", "--json", environ=installed)
    assert done.code == 0, done.out
    assert {row["service"]: row["agreement"] for row in done.json["agreement"]} == {
        "safety taught": "equal",
        "tool_runtime units": "equal",
    }


def test_what_the_target_wrote_is_known_by_it_alone_and_damage_is_found(
    lsbuild: Lsbuild, spec: Path, installed: dict[str, str], tmp_path: Path
) -> None:
    if not (spec.parent / "tarball").exists():
        built(lsbuild, spec, "tarball", installed)
    assert "not an artifact of lsbuild" in lsbuild("inspect", spec.parent / "tarball").err  # the package is not there
    (tmp_path / "cut").mkdir()
    data = (spec.parent / "tarball" / "artifact.tar.gz").read_bytes()
    (tmp_path / "cut" / "artifact.tar.gz").write_bytes(data[: len(data) // 2])
    done = lsbuild("verify", tmp_path / "cut", environ=installed)
    assert done.code == 9
    assert "files" in done.out


def test_a_bad_example_is_told_with_its_line(
    lsbuild: Lsbuild, spec: Path, installed: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "spec.yaml").write_text(spec.read_text().replace("tools:\n  units: {python: tools/convert.py}\n", ""))
    (tmp_path / "examples.jsonl").write_text('{"text": "a", "category": "ok"}\n{"text": 5, "category": "x"}\n')
    done = lsbuild(tmp_path / "spec.yaml", "-o", tmp_path / "art", environ=installed)
    if done.code == 3:
        pytest.skip(f"no package index: {done.err}")
    assert done.code == 4
    assert "examples.jsonl:2" in done.err
    (tmp_path / "spec.yaml").write_text((tmp_path / "spec.yaml").read_text().replace(", source: examples.jsonl", ""))
    done = lsbuild(tmp_path / "spec.yaml", "-o", tmp_path / "art", environ=installed)
    assert (done.code, "name a .jsonl file" in done.err) == (2, True)
