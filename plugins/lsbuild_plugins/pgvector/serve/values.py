"""Python values <-> what PostgreSQL holds: vectors, texts, words and attributes; pure."""

from __future__ import annotations

import re
import sys
import unicodedata
from array import array
from collections.abc import Mapping

import msgspec
from msgspec import Struct
from psycopg.adapt import Dumper
from psycopg.pq import Format

from lsbuild_runtime.ports import Attribute

_NO_WORD = re.compile(r"[\W_]+")
_MARKS = re.compile("[\u0300-\u036f]+")


class Vector(Struct, frozen=True):
    """A float32 little-endian vector, as `Embedded` has it."""

    data: bytes


class VectorDumper(Dumper):
    """pgvector's binary form: two 16-bit numbers (dimensions, 0), then float32, all big-endian. No digit is lost."""

    format = Format.BINARY

    def dump(self, obj: Vector) -> bytes:
        """The bytes of one vector."""
        components = array("f", obj.data)
        if sys.byteorder == "little":
            components.byteswap()
        return len(components).to_bytes(2, "big") + b"\0\0" + components.tobytes()


def stored(text: str) -> str:
    """PostgreSQL's text holds no NUL and no lone surrogate; both become one other character, so offsets stay true."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def words(*texts: str) -> str:
    """The words of ``texts`` in lower case, without accents, between blanks: what is tokenized no longer depends on the
    database's locale, and a path or an address falls into its parts as in a compiled index."""
    text = " ".join(texts)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))
    return _NO_WORD.sub(" ", text.lower())


def attributes_json(attributes: Mapping[str, Attribute]) -> str:
    """Attributes for a jsonb column."""
    return msgspec.json.encode(
        {stored(key): stored(value) if isinstance(value, str) else value for key, value in attributes.items()}
    ).decode()


def attributes(json: str) -> dict[str, Attribute]:
    """Attributes of a jsonb column, sorted by name."""
    return dict(sorted(msgspec.json.decode(json, type=dict[str, bool | int | float | str]).items()))
