"""Ids that nobody can guess, for whatever a server makes."""

from __future__ import annotations

import os


def new_id(prefix: str, size: int = 12) -> str:
    """``prefix``, which brings its own separator, and ``size`` random bytes in hexadecimal digits."""
    return prefix + os.urandom(size).hex()
