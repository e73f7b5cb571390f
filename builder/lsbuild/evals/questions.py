"""A question set: a YAML list or JSON Lines of questions with the places that answer them; it asks nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild import entries
from lsbuild.errors import SourceError

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
    questions: dict[str, Question] = {}
    for where, value in entries.read(path, name, "question"):
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
