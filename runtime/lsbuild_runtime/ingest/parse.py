"""File -> Document: the table of supported kinds, decoding, and the plain kinds; reads bytes it is given, never the disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from lsbuild_runtime.ingest.document import BLANK_BEFORE_TOP, BLANK_LINE, Document, IngestError, Section, cut_at


def parse(path: str, data: bytes) -> Document:
    """Read one file. IngestError for a kind that is not supported or bytes that are not UTF-8."""
    return READERS[kind(path)](path, decode(path, data))


def kind(path: str) -> str:
    """``markdown``, ``html``, ``rst``, ``text`` or ``code``, by the file's suffix; IngestError for any other."""
    suffix = PurePosixPath(path).suffix.lower()
    for name, suffixes in KINDS.items():
        if suffix in suffixes:
            return name
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


def _text(path: str, text: str) -> Document:
    return _flat(path, text, BLANK_LINE)


def _code(path: str, text: str) -> Document:
    return _flat(path, text, BLANK_BEFORE_TOP)


def _flat(path: str, text: str, separator: re.Pattern[str]) -> Document:
    blocks = tuple(cut_at(separator, text, 0, len(text)))
    return Document(path, text, (Section((), blocks),) if blocks else ())


def _markdown(path: str, text: str) -> Document:
    from lsbuild_runtime.ingest.markdown import read

    return read(path, text)


def _html(path: str, text: str) -> Document:
    from lsbuild_runtime.ingest.html import read

    return read(path, text)


def _rst(path: str, text: str) -> Document:
    from lsbuild_runtime.ingest.rst import read

    return read(path, text)


_CODE = """.py .pyi .js .mjs .ts .tsx .jsx .java .kt .go .rs .c .h .cc .cpp .hpp .cs .rb .php .swift .scala .lua .sh .sql
.json .jsonl .yaml .yml .toml .ini .cfg .conf .css .xml .csv .tsv .tf .proto"""
KINDS: dict[str, tuple[str, ...]] = {
    "markdown": (".md", ".markdown", ".mdx"),
    "html": (".html", ".htm", ".xhtml"),
    "rst": (".rst",),
    "text": (".txt", ".text", ".log", ".adoc", ".org", ""),
    "code": tuple(_CODE.split()),
}
READERS: dict[str, Callable[[str, str], Document]] = {
    "markdown": _markdown,
    "html": _html,
    "rst": _rst,
    "text": _text,
    "code": _code,
}
