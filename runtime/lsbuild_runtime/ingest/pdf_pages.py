"""The text of a PDF's pages, taken by pypdfium2 in a process of its own: PDF on stdin, msgpack on stdout.

A process of its own because a PDF is a program for a large C++ library: one that takes all memory, never ends or crashes
must end itself only, not a build or a server (``python -m lsbuild_runtime.ingest.pdf_pages``).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import msgspec
from msgspec import Struct

from lsbuild_runtime.ingest.document import IngestError

MEMORY = 1 << 30
"""Bytes of address space besides four times the file: a stream that unpacks to more is refused."""

SECONDS = 300
"""CPU seconds for one file."""

TEXT = 64 << 20
"""Characters of text; the reference manuals of processors have a quarter of it."""

DEEPEST = 15
"""Levels of the outline that are read."""

_ENVIRON = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "TMPDIR")
"""What the process gets of the environment: no key of ours is its business."""

DAMAGED = "Open it with a PDF viewer; if that works, print it to a new PDF."


class Bookmark(Struct, frozen=True, array_like=True):
    """One line of the outline: ``level`` from 0, ``page`` from 0."""

    level: int
    title: str
    page: int


class Pages(Struct, frozen=True, array_like=True):
    """What was found: the text of each page with ``\\n`` between lines, the outline in order, the title or ""."""

    pages: list[str]
    outline: list[Bookmark]
    title: str


class Fault(Struct, frozen=True, array_like=True, tag=True):
    """Why nothing was found."""

    what: str
    hint: str


class _Found(Struct, frozen=True, array_like=True, tag=True):
    pages: Pages


def extract(path: str, data: bytes) -> Pages:
    """Run this module over ``data``. IngestError says why there is no text: encrypted, damaged, or too much for it."""
    places = os.pathsep.join(entry for entry in sys.path if entry)
    environ = {name: os.environ[name] for name in _ENVIRON if name in os.environ}
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-P", "-m", __name__],
        input=data,
        capture_output=True,
        env={**environ, "PYTHONPATH": places},
        check=False,
    )
    try:
        answer: Fault | _Found = msgspec.msgpack.decode(done.stdout, type=Fault | _Found)
    except msgspec.MsgspecError as error:
        how = f"was stopped by signal {-done.returncode}" if done.returncode < 0 else "ran out of memory"
        raise IngestError(
            f"reading this PDF {how}: it needs more than {MEMORY >> 20} MiB of memory or {SECONDS} s, or it is damaged",
            where=path,
            hint=DAMAGED,
        ) from error
    if isinstance(answer, Fault):
        raise IngestError(answer.what, where=path, hint=answer.hint)
    return answer.pages


def main() -> None:
    """Answer for the PDF on stdin."""
    data = sys.stdin.buffer.read()
    limit = MEMORY + 4 * len(data)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.buffer.write(msgspec.msgpack.encode(_answer(data)))
    sys.stdout.flush()
    os._exit(0)  # pdfium's objects need no tidy end


def _answer(data: bytes) -> Fault | _Found:
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in {raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY}:
            return Fault("this PDF is encrypted and asks for a password", "Save it without a password.")
        return Fault(f"not a readable PDF: {error}", DAMAGED)
    pages: list[str] = []
    total = 0
    for number in range(len(document)):
        try:
            text = document[number].get_textpage().get_text_bounded()
        except pypdfium2.PdfiumError as error:
            return Fault(f"page {number + 1} of {len(document)} cannot be read: {error}", DAMAGED)
        pages.append(text.replace("\r\n", "\n").replace("\r", "\n"))
        total += len(pages[-1])
        if total > TEXT:
            return Fault(f"its first {number + 1} pages hold more than {TEXT:,} characters", "Split the file.")
    if not any(page.strip() for page in pages):
        pictures = f"its {len(pages)} pages are pictures" if pages else "it has no pages"
        return Fault(f"this PDF holds no text: {pictures}", "Recognise its text first, for example: ocrmypdf IN OUT")
    return _Found(Pages(pages, _outline(document, len(pages)), _title(document)))


def _outline(document: object, count: int) -> list[Bookmark]:
    found = []
    for bookmark in document.get_toc(max_depth=DEEPEST):  # type: ignore[attr-defined]
        destination = bookmark.get_dest()
        page = destination.get_index() if destination else None
        title = " ".join(bookmark.get_title().split())
        if title and page is not None and 0 <= page < count:
            found.append(Bookmark(bookmark.level, title, page))
    return found


def _title(document: object) -> str:
    return " ".join(document.get_metadata_value("Title").split())  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
