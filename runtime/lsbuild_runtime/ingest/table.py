"""CSV and TSV -> Document: each row is a section of its own under the names of the columns; offsets are the file's."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsbuild_runtime.ingest.document import Document, Section, trimmed

_DELIMITERS = ",;\t|"
_FIELD = r"""(?:"(?P<quoted>(?:[^"]++|"")*+)"(?P<rest>[^{0}\r\n]*+)|(?P<bare>[^{0}\r\n]*+))(?P<end>{0}|\r\n|\r|\n|\Z)"""
_NUMBER = re.compile(r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?%?")


def read(path: str, text: str) -> Document:
    """Rows as RFC 4180 has them (quoted fields may hold line ends). The delimiter of a .csv is the one of its first line.

    The first row names the columns when its cells are all different and none is empty or a number; it is then the heading
    of every other row, embedded before it, and no passage itself.
    """
    delimiter = "\t" if path.lower().endswith(".tsv") else _delimiter(text)
    rows = _rows(text, delimiter)
    first = next(rows, None)
    if first is None:
        return Document(path, text, ())
    start, end, cells = first
    named = _names_columns(cells)
    heading = (", ".join(" ".join(cell.split()) for cell in cells),) if named else ()
    places = [(start, end), *((start, end) for start, end, _ in rows)]
    spans = [span for place in places[named and len(places) > 1 :] if (span := trimmed(text, *place))]
    return Document(path, text, tuple(Section(heading, (span,)) for span in spans))


def _delimiter(text: str) -> str:
    line = re.split(r"[\r\n]", text[:65536].lstrip("\ufeff\r\n"), maxsplit=1)[0]
    bare = re.sub(r'"(?:[^"]|"")*"', "", line)
    return max(_DELIMITERS, key=bare.count)


def _names_columns(cells: list[str]) -> bool:
    names = [cell.strip() for cell in cells]
    return all(names) and len(set(names)) == len(names) and not any(map(_NUMBER.fullmatch, names))


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """(start, end, cells) of each row."""
    field = re.compile(_FIELD.format(re.escape(delimiter)))
    place = start = int(text.startswith("\ufeff"))
    cells: list[str] = []
    while place < len(text):
        match = field.match(text, place)
        if match is None:  # not reached: a bare field ends at a delimiter, at a line end, or with the text
            return
        quoted = match["quoted"]
        cells.append(match["bare"] if quoted is None else quoted.replace('""', '"') + match["rest"])
        place = match.end()
        if match["end"] != delimiter:
            yield start, match.start("end"), cells
            start, cells = place, []
    if cells:
        yield start, len(text), cells
