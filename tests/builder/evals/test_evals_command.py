"""`lsbuild eval` against a server: the table, the JSON, the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lsbuild.cli import main

SPEC = """
models:
  embed: {type: embedding, source: ./absent}
  chat: {type: llm, source: builtin://tiny-agent}
vector_stores:
  docs: {embedding: embed, sources: [docs]}
agents:
  helper: {model: chat, vector_stores: [docs]}
evals:
  search: {store: docs, questions: q.yaml, gates: {recall@5: 1, mrr: 0.9}}
  answers: {agent: helper, questions: q.yaml, gates: {cited: 0.5}}
"""
QUESTIONS = """
- question: The pump is red.
  group: pumps
  answers: [{file: a.md, lines: 2, text: pump is red}]
- question: Who knows?
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LSBUILD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "q.yaml").write_text(QUESTIONS)
    return tmp_path / "spec.yaml"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, words)])


def test_a_server_is_asked_and_its_gates_are_held(spec: Path, url: str) -> None:
    done = run(spec, "--against", url, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found["evals"]["search"]["metrics"]["mrr"] == 1
    assert found["evals"]["answers"]["metrics"] == {"answered": 0.0, "cited": 1.0, "declined": 0.0}


def test_a_missed_gate_is_exit_code_5_with_the_worst_questions(spec: Path, url: str) -> None:
    done = run(spec, "--against", url, "--set", "evals.answers.gates.answered=0.5")
    assert done.exit_code == 5
    assert "MISSED  answered is 0, the gate is 0.5" in done.stdout
    assert "said      'said'" in done.stdout


def test_every_question_is_printed_when_asked_for(spec: Path, url: str) -> None:
    done = run(spec, "--against", url, "--each")
    assert done.exit_code == 0
    assert "  1.00  The pump is red.  [1]" in done.stdout
    assert "Who knows?" in done.stdout


def test_one_evaluation_by_its_name(spec: Path, url: str) -> None:
    done = run(spec, "--against", url, "--only", "search", "--json")
    assert list(json.loads(done.stdout)["evals"]) == ["search"]
    wrong = run(spec, "--against", url, "--only", "serach")
    assert wrong.exit_code == 2
    assert "Did you mean 'search'?" in wrong.output


def test_a_server_that_is_not_there_and_a_path_that_is_no_artifact(spec: Path) -> None:
    assert run(spec, "--against", "http://127.0.0.1:9").exit_code == 9
    assert run(spec, "--against", spec.parent / "nothing").exit_code == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("store: docs", "store: dogs"), "there is no vector store 'dogs'. Did you mean 'docs'?"),
        (("agent: helper", "agent: help"), "there is no agent 'help'. Did you mean 'helper'?"),
        (("recall@5: 1", "recall@5: 2"), "at most 1"),
    ],
)
def test_a_faulty_spec_is_exit_code_2(spec: Path, change: tuple[str, str], message: str) -> None:
    spec.write_text(SPEC.replace(*change))
    done = run(spec, "--against", "http://127.0.0.1:9")
    assert done.exit_code == 2
    assert message in done.output
