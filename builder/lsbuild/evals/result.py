"""What an evaluation found, as ``eval.json`` holds it; no times and no paths, so that two builds give the same bytes."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

FILE_NAME = "eval.json"


class Place(Struct, frozen=True, kw_only=True):
    """A passage that came, or a citation. Lines are 0 when the server does not tell them."""

    file: str
    text: str = ""
    heading: str = ""
    first: int = 0
    last: int = 0
    score: float = 0.0

    @property
    def label(self) -> str:
        """For people: ``json.rst.txt:20-31``."""
        return f"{self.file}:{self.first}-{self.last}" if self.first else self.file


class Asked(Struct, frozen=True, kw_only=True):
    """One question with what came. ``ranks`` of a search are those of `metrics`; ``said`` is an agent's answer.

    ``score`` orders questions from worst (0) to best (1): the reciprocal rank, or the share of an agent's checks.
    """

    question: str
    group: str
    expected: tuple[str, ...]
    came: tuple[str, ...]
    score: float
    ranks: tuple[int | None, ...] = ()
    said: str = ""


class Result(Struct, frozen=True, kw_only=True):
    """One evaluation. ``metrics`` are over the answerable questions unless their name says otherwise.

    ``groups`` has them for each group of questions, ``modes`` for the other search modes of the store.
    """

    api: str
    target: str
    mode: str
    k: int
    questions: int
    unanswerable: int
    metrics: dict[str, float]
    groups: dict[str, dict[str, float]] = {}
    modes: dict[str, dict[str, float]] = {}
    asked: tuple[Asked, ...] = ()

    def worst(self, most: int) -> list[Asked]:
        """The answerable questions that did worst, worst first."""
        return sorted((each for each in self.asked if each.expected and each.score < 1), key=lambda each: each.score)[
            :most
        ]


def write(result: Result, folder: Path) -> None:
    """Write ``eval.json``."""
    (folder / FILE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(result, order="sorted")) + b"\n")


def read(folder: Path) -> Result:
    """What ``write`` wrote."""
    return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Result)
