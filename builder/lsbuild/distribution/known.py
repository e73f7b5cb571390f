"""Remembers which repository of a registry got a blob, so that another one there can have it without sending it again.

What is remembered is a guess: the registry is asked, and says no where it is wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

_MOST = 4096


class Known:
    """The blobs of one registry, in one file below ``cache``. Two processes may write: the last of them is right."""

    def __init__(self, cache: Path, host: str) -> None:
        self._path = cache / "registries" / f"{hashlib.sha256(host.encode()).hexdigest()[:32]}.json"
        self._places = self._read()

    def origin(self, digest: str, name: str) -> str:
        """A repository other than ``name`` that has the blob; "" when none is known."""
        found = self._places.get(digest, "")
        return found if found != name else ""

    def remember(self, digests: Iterable[str], name: str) -> None:
        """Note that ``name`` has these."""
        self._places |= dict.fromkeys(digests, name)
        newest = dict(list(self._places.items())[-_MOST:])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=self._path.parent)
        with os.fdopen(descriptor, "w") as out:
            json.dump(newest, out)
        Path(fresh).replace(self._path)

    def _read(self) -> dict[str, str]:
        try:
            value = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(key): str(name) for key, name in value.items()} if isinstance(value, dict) else {}
