"""``artifact.json``: what an artifact of this target is made of, for those who verify, flash and install it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lsbuild.packing import artifact_record
from lsbuild.packing.artifact_record import FILE

__all__ = ["FILE", "Record", "read", "to_json"]


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
    firmware: str = ""
    """What boots a card: ``debian``, ``none`` or ``given`` (a folder); "" without an image."""


def to_json(record: Record) -> bytes:
    """See artifact_record."""
    return artifact_record.to_json("rpi", asdict(record))


def read(artifact: Path) -> Record | None:
    """See artifact_record."""
    return artifact_record.read(artifact, "rpi", lambda value: Record(**value))
