"""Group ``artifact_*``: what an artifact weighs without its models, against what others install for the same work."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bench import builds
from bench.environment import peer
from bench.figure import Budget, Figure
from bench.worker import run

NAMES = ("artifact_size_no_model",)
_PEER = ("fastapi", "uvicorn", "sentence-transformers")


def measure(names: tuple[str, ...]) -> Iterable[Figure]:  # noqa: ARG001 - there is but one
    """Bytes of files, unpacked; compiled bytecode counts for us, since we ship it, and not for the peer."""
    manifest = json.loads((builds.search() / "manifest.json").read_text())
    mine = sum(file["size"] for file in manifest["files"] if file["part"] in ("wheels", "app"))
    theirs: dict[str, int] = json.loads(run(peer("installed", *_PEER)).output)
    yield Figure(
        name="artifact_size_no_model",
        ours=mine / 1e6,
        peer=sum(theirs.values()) / 1e6,
        unit="MB",
        better="lower",
        peer_name=f"installed files of {', '.join(_PEER)} and what they require ({len(theirs)} packages, CPU-only torch)",
        budget=Budget(85.0),
        conditions="wheels and application of a host artifact with an encoder and an index, no model, no index",
    )
