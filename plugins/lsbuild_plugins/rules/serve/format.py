"""The file of compiled rules, which the build writes and the shield reads; no behaviour beyond that."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from lsbuild_runtime.manifest import ManifestError
from lsbuild_runtime.safety import Action, Category, Where

FILE_NAME = "rules.msgpack"


class Rule(Struct, frozen=True):
    """One rule. ``pattern`` is RE2 syntax over the bytes of a view of the text (see `view`).

    ``length`` is the most bytes that ``pattern`` matches. ``rest`` is a character class: a match goes on through all
    characters of it. ``validator`` is a name that `validate` knows; it sees the first group of the pattern. ``absent`` turns
    the rule round: it finds a text in which the pattern is nowhere. ``literals`` are the words of a long list, which stand
    in the place of a pattern.
    """

    id: str
    category: str
    action: Action
    where: tuple[Where, ...]
    pattern: str
    length: int
    message: str
    label: str
    cased: bool = False
    leet: bool = False
    rest: str = ""
    validator: str = ""
    absent: bool = False
    literals: tuple[str, ...] = ()


class Rules(Struct, frozen=True):
    """All of a shield. ``table`` maps code points to what stands for them in the views; others stand for themselves."""

    categories: tuple[Category, ...]
    rules: tuple[Rule, ...]
    table: dict[int, str]
    schema: Literal[1] = 1


def write(folder: Path, rules: Rules) -> None:
    """Write ``rules`` into ``folder``; the same rules give the same bytes."""
    (folder / FILE_NAME).write_bytes(msgspec.msgpack.encode(rules))


def read(folder: Path) -> Rules:
    """The rules in ``folder``; ManifestError when the file is missing or another format."""
    path = folder / FILE_NAME
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Rules)
    except (OSError, msgspec.MsgspecError) as error:
        raise ManifestError(f"{path} is not readable ({error}); build the artifact again") from error
