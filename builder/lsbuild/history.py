"""The records of the last build of each spec and target, kept in the cache so that a plan can say what changed.

Losing them costs nothing but the reasons.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lsbuild.plan import StepRecord


def read(cache: Path, spec: Path, target: str) -> Mapping[str, StepRecord]:
    """The records by step name; empty when this spec was not built for ``target`` before."""
    try:
        return msgspec.json.decode(_place(cache, spec, target).read_bytes(), type=dict[str, StepRecord])
    except (OSError, msgspec.MsgspecError):
        return {}


def write(cache: Path, spec: Path, target: str, records: Mapping[str, StepRecord]) -> None:
    """Keep ``records`` for the next build; a cache that cannot be written is no reason to fail one that succeeded."""
    place = _place(cache, spec, target)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(dict(records), order="deterministic"))
        Path(name).replace(place)
    except OSError:
        return


def _place(cache: Path, spec: Path, target: str) -> Path:
    name = hashlib.sha256(f"{spec.resolve()}\0{target}".encode()).hexdigest()[:32]
    return cache / "plans" / f"{name}.json"
