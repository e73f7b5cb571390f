"""Small PDF files for tests, written byte by byte: pages of lines, an outline, encryption, and streams that unpack badly."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

Outline = Sequence[tuple[int, str, int]]
"""(level from 0, title, page from 0), in order; a level follows its parent."""


def pdf(pages: Sequence[Sequence[str]], outline: Outline = (), title: str = "", encrypt: bool = False) -> bytes:
    """A PDF of Helvetica lines, from the top of each page."""
    return document([content(lines) for lines in pages], outline, title, encrypt)


def content(lines: Sequence[str]) -> bytes:
    """The operators that draw ``lines`` (Latin-1) one below the other."""
    shown = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines]
    drawn = "".join(f"({line}) Tj 0 -14 Td\n" for line in shown)
    return f"BT /F1 11 Tf 72 760 Td\n{drawn}ET".encode("latin-1")


def document(contents: Sequence[bytes], outline: Outline = (), title: str = "", encrypt: bool = False) -> bytes:
    """A PDF whose pages draw ``contents``; with ``encrypt`` it asks for a password that nobody knows."""
    objects: list[bytes] = []

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    catalog, tree, font, info = (add(b"") for _ in range(4))
    objects[font - 1] = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    objects[info - 1] = b"<</Title(%s)>>" % title.encode("latin-1") if title else b"<<>>"
    kids = []
    for each in contents:
        packed = zlib.compress(each)
        stream = add(b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed))
        page = b"<</Type/Page/Parent %d 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 %d 0 R>>>>/Contents %d 0 R>>"
        kids.append(add(page % (tree, font, stream)))
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[tree - 1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), listed)
    root = _outlines(add, objects, outline, kids)
    below = b"/Outlines %d 0 R" % root if root else b""
    objects[catalog - 1] = b"<</Type/Catalog/Pages %d 0 R%s>>" % (tree, below)
    extra = b"/Info %d 0 R/ID[<%s><%s>]" % (info, b"00" * 16, b"00" * 16)
    if encrypt:
        words = b"<%s>" % (b"ab" * 32)
        lock = add(b"<</Filter/Standard/V 1/R 2/Length 40/P -4/O%s/U%s>>" % (words, words))
        extra += b"/Encrypt %d 0 R" % lock
    return _file(objects, catalog, extra)


def _outlines(add: Callable[[bytes], int], objects: list[bytes], outline: Outline, kids: list[int]) -> int:
    if not outline:
        return 0
    root = add(b"")
    numbers = [add(b"") for _ in outline]
    for index, (level, title, page) in enumerate(outline):
        earlier = [place for place in range(index) if outline[place][0] < level]
        parent = numbers[earlier[-1]] if earlier else root
        rest = range(index + 1, len(outline))
        end = next((place for place in rest if outline[place][0] < level), len(outline))
        after = [place for place in range(index + 1, end) if outline[place][0] == level]
        links = b"/Next %d 0 R" % numbers[after[0]] if after else b""
        if index + 1 < len(outline) and outline[index + 1][0] > level:
            links += b"/First %d 0 R/Last %d 0 R" % (numbers[index + 1], numbers[index + 1])
        objects[numbers[index] - 1] = b"<</Title(%s)/Parent %d 0 R/Dest[%d 0 R/Fit]%s>>" % (
            title.encode("latin-1"),
            parent,
            kids[page],
            links,
        )
    objects[root - 1] = b"<</Type/Outlines/First %d 0 R/Last %d 0 R>>" % (numbers[0], numbers[-1])
    return root


def _file(objects: list[bytes], catalog: int, extra: bytes) -> bytes:
    out = bytearray(b"%PDF-1.5\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    rows = b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, rows)
    out += b"trailer <</Size %d/Root %d 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, catalog, extra, table)
    return bytes(out)


def bomb(megabytes: int) -> bytes:
    """A PDF of a few kilobytes whose page unpacks to so many megabytes of operators, packed twice."""
    once = _repeated(b"BT /F1 9 Tf (x) Tj ET\n" * 47_663, megabytes)
    twice = zlib.compress(once, 9)
    plain = document([b"@"])
    packed = zlib.compress(b"@")
    old = b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed)
    new = b"<</Length %d/Filter[/FlateDecode/FlateDecode]>>stream\n%s\nendstream" % (len(twice), twice)
    assert old in plain
    return plain.replace(old, new)  # the table of places is wrong then; readers build it anew


def _repeated(block: bytes, times: int) -> bytes:
    """What zlib would make of ``block * times``, near enough, without packing it so often."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(times):
        check = zlib.adler32(block, check)
    return b"\x78\xda" + part * times + packer.flush() + check.to_bytes(4)
