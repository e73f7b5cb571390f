"""File -> Document: the table of supported kinds, decoding, and the plain kinds; reads bytes it is given, never the disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from lsbuild_runtime.ingest.document import BLANK_BEFORE_TOP, BLANK_LINE, Document, IngestError, Section, cut_at


def parse(path: str, data: bytes) -> Document:
    """Read one file. IngestError for a kind that is not supported and for bytes that are not what the kind says."""
    return READERS[kind(path)](path, data)


def kind(path: str) -> str:
    """A key of ``READERS``, by the file's suffix (the longest that is known); IngestError for any other."""
    name = PurePosixPath(path).name.lower()
    suffixes = PurePosixPath(name).suffixes
    for suffix in ("".join(suffixes[-2:]), "".join(suffixes[-1:])):
        found = next((kind for kind, known in KINDS.items() if suffix in known), None)
        if found:
            return found
    known = "; ".join(f"{name}: {' '.join(s or '(none)' for s in suffixes)}" for name, suffixes in KINDS.items())
    raise IngestError(
        f"files of kind {suffix!r} cannot be indexed", where=path, hint=f"Convert or exclude it. Supported are {known}"
    )


def decode(path: str, data: bytes) -> str:
    """UTF-8 text, newlines and a byte order mark untouched so that offsets stay those of the file."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IngestError(
            f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason})",
            where=path,
            hint=f"Convert it, for example: iconv -f LATIN1 -t UTF-8 {path}",
        ) from error


def _text(path: str, data: bytes) -> Document:
    return _flat(path, decode(path, data), BLANK_LINE)


def _code(path: str, data: bytes) -> Document:
    return _flat(path, decode(path, data), BLANK_BEFORE_TOP)


def _flat(path: str, text: str, separator: re.Pattern[str]) -> Document:
    blocks = tuple(cut_at(separator, text, 0, len(text)))
    return Document(path, text, (Section((), blocks),) if blocks else ())


def _python(path: str, data: bytes) -> Document:
    from lsbuild_runtime.ingest.python import read

    text = decode(path, data)
    return read(path, text) or _flat(path, text, BLANK_BEFORE_TOP)


def _markdown(path: str, data: bytes) -> Document:
    from lsbuild_runtime.ingest.markdown import read

    return read(path, decode(path, data))


def _html(path: str, data: bytes) -> Document:
    from lsbuild_runtime.ingest.html import read

    return read(path, decode(path, data))


def _rst(path: str, data: bytes) -> Document:
    from lsbuild_runtime.ingest.rst import read

    return read(path, decode(path, data))


def _pdf(path: str, data: bytes) -> Document:
    from lsbuild_runtime.ingest.pdf import read

    return read(path, data)


def _table(path: str, data: bytes) -> Document:
    from lsbuild_runtime.ingest.table import read

    return read(path, decode(path, data))


def _records(path: str, data: bytes) -> Document:
    from lsbuild_runtime.ingest.records import read

    return read(path, decode(path, data))


_CODE = """.js .mjs .ts .tsx .jsx .java .kt .go .rs .c .h .cc .cpp .hpp .cs .rb .php .swift .scala .lua .sh .sql
.json .yaml .yml .toml .ini .cfg .conf .css .xml .tf .proto"""
KINDS: dict[str, tuple[str, ...]] = {
    "markdown": (".md", ".markdown", ".mdx", ".md.txt"),
    "html": (".html", ".htm", ".xhtml"),
    "pdf": (".pdf",),
    "rst": (".rst", ".rst.txt"),
    "text": (".txt", ".text", ".log", ".adoc", ".org", ""),
    "table": (".csv", ".tsv"),
    "records": (".jsonl", ".ndjson"),
    "python": (".py", ".pyi"),
    "code": tuple(_CODE.split()),
}
"""Kind -> suffixes. Sphinx publishes the sources of its pages as ``.rst.txt`` and ``.md.txt``."""

READERS: dict[str, Callable[[str, bytes], Document]] = {
    "markdown": _markdown,
    "html": _html,
    "pdf": _pdf,
    "rst": _rst,
    "text": _text,
    "table": _table,
    "records": _records,
    "python": _python,
    "code": _code,
}
"""Kind -> ``read(path, data)``; each imports its library when it is first used."""
