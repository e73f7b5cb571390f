"""Holds random answers to a schema with outlines-core: ``structured VOCABULARY SCHEMA SEEDS``; prints one JSON line.

VOCABULARY is a JSON file: the hexadecimal bytes of every token, null for a special one; the first special one ends a text.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from outlines_core import Guide, Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema


def main(vocabulary: str, schema: str, seeds: str) -> None:
    """CPU seconds of the vocabulary and of the index, and of each mask."""
    tokens = json.loads(Path(vocabulary).read_text())
    eos = tokens.index(None)
    started = time.process_time()
    known: dict[bytes, list[int]] = {}
    for number, token in enumerate(tokens):
        if token is not None:
            known.setdefault(bytes.fromhex(token), []).append(number)
    words = Vocabulary(eos, known)
    ready = time.process_time()
    index = Index(build_regex_from_schema(Path(schema).read_text()), words)
    built = time.process_time()
    masks: list[float] = []
    for seed in range(int(seeds)):
        masks += _walk(index, len(tokens), random.Random(seed))
    print(json.dumps({"vocabulary_s": ready - started, "grammar_s": built - ready, "masks_s": masks}))


def _walk(index: Any, size: int, chance: random.Random) -> list[float]:
    """One random answer; the time of each mask, written into memory and applied to a row of logits."""
    guide, spent = Guide(index), []
    bits, row = np.zeros((size + 31) // 32, np.int32), np.zeros(size, np.float32)
    while not guide.is_finished() and len(spent) < 200:
        started = time.process_time()
        guide.write_mask_into(bits.ctypes.data, len(bits), 4)
        blocked = np.unpackbits(bits.view(np.uint8), bitorder="little")[:size] == 0
        row[blocked] = -np.inf
        spent.append(time.process_time() - started)
        allowed = np.flatnonzero(~blocked).tolist()
        row[:] = 0
        guide.advance(chance.choice(allowed))
    return spent


if __name__ == "__main__":
    main(*sys.argv[1:])
