"""Public keys as text: ``ed25519:`` and 32 bytes in base64; pure."""

from __future__ import annotations

import base64
import binascii
import hashlib

PREFIX = "ed25519:"
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""The points of order 1, 2, 4 and 8 in every encoding, without the sign: for such a key a signature of anything is made
without a secret."""


class KeyTextError(ValueError):
    """The text is no usable public key."""


def parse(text: str) -> bytes:
    """The 32 bytes of a key. Raises KeyTextError."""
    word = text.strip()
    if not word.startswith(PREFIX):
        raise KeyTextError(
            f"{word[:60]!r} is not a public key; it begins with {PREFIX!r}, as `lsbuild key new` prints it"
        )
    try:
        raw = base64.b64decode(word[len(PREFIX) :], validate=True)
    except binascii.Error as error:
        raise KeyTextError(f"{word[:60]!r} is not a public key: {error}") from None
    if len(raw) != 32:
        raise KeyTextError(f"{word[:60]!r} is not a public key: it has {len(raw)} bytes, not 32")
    if raw[:31] + bytes([raw[31] & 0x7F]) in _SMALL_ORDER:
        raise KeyTextError(f"{word[:60]!r} is a key of small order, which anybody can sign for")
    return raw


def to_text(raw: bytes) -> str:
    """The text of a key."""
    return PREFIX + base64.b64encode(raw).decode()


def key_id(raw: bytes) -> str:
    """A short name for a key: the first 16 hex digits of its sha256."""
    return hashlib.sha256(raw).hexdigest()[:16]
