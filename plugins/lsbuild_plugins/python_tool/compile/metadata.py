"""PEP 723: the block of TOML in a script's comments that names its dependencies; reads text, imports nothing of it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from lsbuild.api import SourceError


@dataclass(frozen=True, slots=True)
class Metadata:
    """``dependencies`` are requirement strings, ``python`` the specifier of requires-python or ""."""

    dependencies: tuple[str, ...] = ()
    python: str = ""


def read(text: str, where: str) -> Metadata:
    """The metadata of the file ``where``; none when it has no block. SourceError with file and line for a broken one."""
    blocks = _blocks(text.splitlines(), where)
    if not blocks:
        return Metadata()
    if len(blocks) > 1:
        raise _fault("there are two '# /// script' blocks", where, blocks[1][0], "Keep one of them.")
    line, lines = blocks[0]
    try:
        found = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise _fault(
            f"the script block is not valid TOML: {error}", where, line, "See PEP 723 for its form."
        ) from error
    dependencies, python = found.get("dependencies", []), found.get("requires-python", "")
    if not isinstance(dependencies, list) or not all(isinstance(each, str) for each in dependencies):
        raise _fault("dependencies is not a list of texts", where, line, 'Write dependencies = ["humanize>=4"].')
    if not isinstance(python, str):
        raise _fault("requires-python is not a text", where, line, 'Write requires-python = ">=3.11".')
    for each in dependencies:
        if "@" in each or "://" in each or each.strip().startswith(("-", ".", "/")):
            what = f"the dependency {each!r} is a place, not a name: it could not be locked for the target"
            raise _fault(what, where, line, "Name a distribution of the package index and its versions.")
    return Metadata(tuple(dependencies), python)


def _blocks(lines: list[str], where: str) -> list[tuple[int, list[str]]]:
    """(line number, content) of every script block."""
    found: list[tuple[int, list[str]]] = []
    number = 0
    while number < len(lines):
        if lines[number].rstrip() != "# /// script":
            number += 1
            continue
        start, content = number + 1, []
        number += 1
        while number < len(lines) and lines[number].startswith("#") and lines[number].rstrip() != "# ///":
            content.append(lines[number][2:] if lines[number].startswith("# ") else lines[number][1:])
            number += 1
        if number == len(lines) or lines[number].rstrip() != "# ///":
            raise _fault("the script block is not closed", where, start, "End it with a line '# ///'.")
        found.append((start, content))
    return found


def _fault(what: str, where: str, line: int, hint: str) -> SourceError:
    return SourceError(what, where=f"{where}:{line}", hint=hint)
