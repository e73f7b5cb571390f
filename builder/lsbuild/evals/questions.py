"""A question set: a YAML list or JSON Lines of questions with the places that answer them; it asks nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild.errors import SourceError, SpecError

_LINES = re.compile(r"([1-9]\d*)(?:-([1-9]\d*))?")


class Answer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One right place. A passage holds it when every condition that is given holds.

    ``file`` is a name or a glob; ``lines`` ("12" or "12-15") must be touched; ``text`` must stand in the passage, line
    breaks counting as blanks; ``heading`` must be a part of the passage's heading path. ``grade`` weighs it in nDCG.
    """

    file: str
    lines: str | int | None = None
    text: str = ""
    heading: str = ""
    grade: int = 1

    def __post_init__(self) -> None:
        match = _LINES.fullmatch(str(self.lines)) if self.lines is not None else None
        if self.lines is not None and (match is None or int(match[1]) > int(match[2] or match[1])):
            raise ValueError(f"lines: {self.lines!r} is not of the form 12 or 12-15")
        if self.grade < 1:
            raise ValueError(f"grade: {self.grade} is less than 1")

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last line, counted from 1."""
        first, _, last = str(self.lines).partition("-")
        return (int(first), int(last or first)) if self.lines is not None else None

    @property
    def label(self) -> str:
        """For people: ``json.rst.txt:26-28 "Be cautious"``."""
        parts = [f"{self.file}:{self.lines}" if self.lines is not None else self.file]
        parts += [f"> {self.heading}"] if self.heading else []
        parts += [f'"{self.text}"'] if self.text else []
        return " ".join(parts)


class Question(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question. Without ``answers`` the documents do not answer it. ``group`` is what results are told apart by."""

    question: str
    answers: tuple[Answer, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError("question: is empty")


def load(path: Path, name: str) -> tuple[Question, ...]:
    """The questions of a file (.yaml, .yml or .jsonl); SourceError names the first faulty entry with its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"not UTF-8 (byte {error.start})", where=name, hint="Save the file in that encoding."
        ) from error
    entries = list(_jsonl(text, name) if name.endswith(".jsonl") else _yaml(text, name))
    if not entries:
        raise SourceError("there is no question in this file", where=name)
    questions: dict[str, Question] = {}
    for where, value in entries:
        question = _question(value, where)
        if question.question in questions:
            raise SourceError(f"this question was asked before: {question.question!r}", where=where)
        questions[question.question] = question
    return tuple(questions.values())


def _question(value: Any, where: str) -> Question:
    try:
        return msgspec.convert(value, Question)
    except msgspec.ValidationError as error:
        raise SourceError(
            str(error),
            where=where,
            hint="An entry is {question: ..., answers: [{file: ..., lines: 12-15, text: ...}], group: ...}.",
        ) from error


def _yaml(text: str, name: str) -> Iterator[tuple[str, Any]]:
    from lsbuild.spec import marks  # 0.1 CPU seconds

    faults: list[Any] = []
    try:
        tree = marks.parse(text, name, faults)
    except SpecError as error:
        faults = list(error.problems)
    if faults:
        raise SourceError(faults[0].message, where=faults[0].where or name)
    if not marks.is_list(tree):
        raise SourceError("a question set is a list", where=name, hint="Begin each question with `- question: ...`.")
    for node in tree.list:
        yield node.origin.where, node.plain()


def _jsonl(text: str, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"{name}:{number}", msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise SourceError(f"not JSON: {error}", where=f"{name}:{number}") from error
