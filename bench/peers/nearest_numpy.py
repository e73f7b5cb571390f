"""Brute force with numpy: all vectors in memory as float32, one product for a query. ``nearest_numpy PROGRAM ...``.

Programs: ``build VECTORS FILE`` writes what ``flat ...`` loads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.nearest import DIMENSIONS, K, command, main


def build(arguments: list[str]) -> None:
    """The vectors as a .npy file."""
    source, out = arguments
    with Path(out).open("wb") as file:
        np.save(file, np.fromfile(source, "<f4").reshape(-1, DIMENSIONS))


class Flat:
    """All vectors in memory."""

    def __init__(self, path: str) -> None:
        self._vectors = np.load(path)

    def search(self, vector: bytes, effort: int) -> Any:  # noqa: ARG002 - a scan has no knob
        """See `bench.nearest.Engine`."""
        scores = self._vectors @ np.frombuffer(vector, "<f4")
        best = np.argpartition(scores, -K)[-K:]
        return best[np.argsort(-scores[best], kind="stable")]


if __name__ == "__main__":
    main({"build": build, "flat": lambda rest: command(rest, Flat)})
