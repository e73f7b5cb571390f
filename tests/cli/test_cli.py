"""The command line in process: what it parses, prints and exits with; nothing is compiled here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lsbuild import cli


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(word) for word in words])


@pytest.fixture
def bad_spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text("version: 1\nmodle:\n  a: {}\nserver: {prot: 1}\n")
    return path


def test_build_is_the_default_command(bad_spec: Path) -> None:
    for words in ((bad_spec,), ("--target", "host", bad_spec), ("build", bad_spec)):
        result = run(*words)
        assert result.exit_code == 2, result.output
        assert "spec.yaml:2:1" in result.output
        assert "spec.yaml:4:10" in result.output


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in cli.main.commands:
        assert name in result.output


def test_errors_are_json_when_asked(bad_spec: Path) -> None:
    result = run(bad_spec, "--json")
    body = json.loads(result.output)
    assert result.exit_code == 2
    assert body["ok"] is False
    assert [problem["where"].rsplit("spec.yaml", 1)[1] for problem in body["error"]["problems"]] == [":2:1", ":4:10"]


def test_no_command_shows_a_traceback(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    for words in ((missing,), ("plan", missing), ("config", missing), ("inspect", missing), ("verify", missing)):
        result = run(*words)
        assert result.exit_code in (2, 3, 9), (words, result.output)
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_an_unknown_target_is_named_with_a_suggestion(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("version: 1\nmodels: {}\n")
    result = run("--target", "contaner", spec)
    assert result.exit_code in (2, 7)
    assert "container" in result.output


def test_schema_is_a_json_schema_of_the_spec() -> None:
    schema = json.loads(run("schema").output)
    assert schema["$schema"].startswith("https://json-schema.org/draft/2020-12")
    assert "models" in schema["properties"]


def test_init_writes_a_spec_that_config_accepts(tmp_path: Path) -> None:
    for template in ("minimal", "rag", "proxy"):
        folder = tmp_path / template
        assert run("init", template, folder).exit_code == 0
        result = run("config", folder / "spec.yaml")
        assert result.exit_code == 0, result.output
    assert run("init", "rag", tmp_path / "rag").exit_code == 8  # nothing is overwritten
    assert run("init", "nothing", tmp_path / "x").exit_code == 7


def test_config_explains_where_values_come_from(tmp_path: Path) -> None:
    run("init", "minimal", tmp_path)
    result = run("config", tmp_path / "spec.yaml", "--explain", "--set", "server.port=9000")
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if line.startswith("server.port"))
    assert "9000" in line
    assert "--set" in line


HEAVY = (
    "numpy",
    "onnx",
    "onnxruntime",
    "pydantic",
    "rich",
    "ruamel",
    "tokenizers",
    "apsw",
    "uvicorn",
    "huggingface_hub",
)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from lsbuild import cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(HEAVY) & set(done.stdout.split())


def test_compact_becomes_the_artifacts_own_run(tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "run").write_text('#!/bin/sh\necho "$0" "$@"\nexit 7\n')
    (artifact / "run").chmod(0o755)
    command = [sys.executable, "-m", "lsbuild", "compact", str(artifact), "--state", str(tmp_path / "a b")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (7, f"{artifact / 'run'} --compact --state {tmp_path / 'a b'}")


def test_compact_names_what_is_no_artifact(tmp_path: Path) -> None:
    result = run("compact", tmp_path)
    assert result.exit_code == 10
    assert str(tmp_path / "run") in result.output
