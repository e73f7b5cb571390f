"""A small embedding model for tests: hashed words and word pairs, signed, of unit length; needs no weights."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Embedded


class Hashing:
    """Texts that share words are near; the same text always has the same vector."""

    def __init__(self, dimensions: int = 96, longest: int = 512) -> None:
        self.dimensions = dimensions
        self.longest = longest
        self.read: list[str] = []

    def embed(self, inputs: Sequence[str] | Sequence[Sequence[int]], *_: Context) -> Embedded:
        texts = [str(text) for text in inputs]
        self.read += texts
        return Embedded(tuple(self._vector(text) for text in texts), sum(len(text.split()) for text in texts))

    def _vector(self, text: str) -> bytes:
        words = re.findall(r"\w+", text.lower())
        if len(words) > self.longest:
            raise ApiError(
                400, f"{len(words)} words, at most {self.longest}", param="input", code="context_length_exceeded"
            )
        components = [0.0] * self.dimensions
        for feature in ["", *words, *(" ".join(pair) for pair in pairwise(words))]:
            digest = hashlib.sha256(feature.encode(errors="replace")).digest()
            components[int.from_bytes(digest[:4]) % self.dimensions] += 1 if digest[4] & 1 else -1
        length = math.sqrt(sum(x * x for x in components)) or 1.0
        return array("f", [x / length for x in components]).tobytes()


def open_hashing(service: Service, root: Path, host: Any) -> Hashing:
    """The entry of the serve half; refuses to open without its folder, as a real model would."""
    if not (root / service.path / "tokenizer.json").is_file():
        raise FileNotFoundError(root / service.path)
    return Hashing(**service.config)
