"""Question sets: what is read, and that a fault is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild.errors import SourceError
from lsbuild.evals.questions import Question, load


def read(tmp_path: Path, text: str, name: str = "questions.yaml") -> tuple[Question, ...]:
    (tmp_path / name).write_text(text)
    return load(tmp_path / name, name)


def test_yaml_and_json_lines_give_the_same(tmp_path: Path) -> None:
    yaml = """
- question: Where is the pump?
  group: where
  answers:
    - {file: "*.md", lines: 3-5, text: in the cellar, grade: 2}
    - {file: b.md, lines: 7}
- question: Who am I?
"""
    lines = (
        '{"question": "Where is the pump?", "group": "where", "answers": [{"file": "*.md", "lines": "3-5", '
        '"text": "in the cellar", "grade": 2}, {"file": "b.md", "lines": 7}]}\n\n{"question": "Who am I?"}\n'
    )
    first, second = read(tmp_path, yaml)
    assert (first, second) == read(tmp_path, lines, "q.jsonl")
    assert [answer.span for answer in first.answers] == [(3, 5), (7, 7)]
    assert first.answers[0].label == '*.md:3-5 "in the cellar"'
    assert second.answers == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- question: A\n- qestion: B\n", r"questions\.yaml:2:3: .*qestion"),
        ("- question: A\n  answers: [{lines: 3}]\n", r"questions\.yaml:1:3: .*`file`"),
        ("- question: A\n  answers: [{file: a, lines: 5-3}]\n", r"questions\.yaml:1:3: .*'5-3' is not of the form"),
        ("- question: A\n  answers: [{file: a, grade: 0}]\n", "grade: 0 is less than 1"),
        ("- question: ' '\n", "question: is empty"),
        ("- question: A\n- question: A\n", r"questions\.yaml:2:3: this question was asked before"),
        ("question: A\n", "the file is no list of questions"),
        ("[]\n", "no question"),
        ("- {question: A\n", r"questions\.yaml:\d+:\d+"),
    ],
)
def test_a_fault_has_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, text)


def test_a_faulty_line_of_json(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"q\.jsonl:2: not JSON"):
        read(tmp_path, '{"question": "A"}\n{"question"\n', "q.jsonl")
    (tmp_path / "latin.yaml").write_bytes(b"- question: \xe4\n")
    with pytest.raises(SourceError, match="not UTF-8"):
        load(tmp_path / "latin.yaml", "latin.yaml")
