"""``artifact.json``: what an artifact of this target is made of, for those who verify, flash and install it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsbuild.api import VerifyError

FILE = "artifact.json"


@dataclass(frozen=True, slots=True)
class Record:
    """One artifact. ``files`` maps a kind of package ("deb", "tar", "image") to its file's name, ``hashes`` to its sha256.

    ``unit`` is the name of the systemd unit without its ending, ``python`` the version it runs on. ``base`` are the Debian
    packages (pool path -> sha256) that the build locked and a check boots it on, ``base_uri`` where they are from.
    """

    unit: str
    profile: str
    python: str
    glibc: str
    files: Mapping[str, str]
    hashes: Mapping[str, str]
    base_uri: str
    base: Mapping[str, str]


def to_json(record: Record) -> bytes:
    """Sorted, with a final newline."""
    return json.dumps({"target": "rpi", **asdict(record)}, indent=2, sort_keys=True).encode() + b"\n"


def read(artifact: Path) -> Record | None:
    """The record in the folder ``artifact``; None when this target did not make it. Raises VerifyError for a damaged one."""
    try:
        value: dict[str, Any] = json.loads((artifact / FILE).read_bytes())
    except OSError:
        return None
    except ValueError as error:
        raise VerifyError(f"is not readable: {error}", where=str(artifact / FILE), hint="build it again") from error
    if not isinstance(value, dict) or value.pop("target", None) != "rpi":
        return None
    try:
        return Record(**value)
    except TypeError as error:
        raise VerifyError(
            f"is not as it was written: {error}", where=str(artifact / FILE), hint="build it again"
        ) from error
