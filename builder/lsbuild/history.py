"""The records of the last build of each spec and target, kept in the cache so that a plan can say what changed.

Losing them costs nothing but the reasons.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lsbuild import disk
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
        disk.put(place, msgspec.json.encode(dict(records), order="deterministic"))
    except OSError:
        return


def _place(cache: Path, spec: Path, target: str) -> Path:
    name = hashlib.sha256(os.fsencode(f"{spec.resolve()}\0{target}")).hexdigest()[:32]
    return cache / "plans" / f"{name}.json"
