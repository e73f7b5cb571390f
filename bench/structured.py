"""Group ``structured_*``: what it costs to hold an answer to a schema, beside outlines-core; CPU time, 49,152 tokens.

The vocabulary is the benchmark model's made-up one, the schema that of a tool call with enums, numbers, a list and text.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from bench.environment import outlines
from bench.figure import Budget, Figure
from bench.models import SPECIALS, write_tokenizer
from bench.worker import run
from lsbuild_plugins.onnx.serve.constraint import Grammars
from lsbuild_plugins.onnx.serve.grammar import Wanted, write
from lsbuild_plugins.onnx.serve.schema import plain
from lsbuild_plugins.onnx.serve.text import Vocabulary

NAMES = (
    "structured_vocabulary",
    "structured_schema",
    "structured_schema_again",
    "structured_mask_p50",
    "structured_mask_p95",
    "structured_mask_max",
    "structured_forced",
)
SIZE = 49_152
SEEDS = 12
ROUNDS = 5
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["celsius", "fahrenheit", "kelvin"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "places": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[A-Z][a-z]{1,20}$"},
            "minItems": 1,
            "maxItems": 3,
        },
        "note": {"type": "string", "maxLength": 40},
        "exact": {"type": "boolean"},
    },
    "required": ["unit", "days", "places", "note", "exact"],
    "additionalProperties": False,
}
_PEER = "outlines-core 0.2.14"


def measure(names: tuple[str, ...]) -> Iterable[Figure]:  # noqa: ARG001 - all come from the same walks
    """Ours in this process, the peer in one of its own; both take random tokens of those that are allowed."""
    with tempfile.TemporaryDirectory(prefix="lsbuild-bench-") as folder:
        write_tokenizer(Path(folder), SIZE)
        tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        vocabulary = Vocabulary(tokenizer)
        ours = _ours(vocabulary)
        peer = _peer(Path(folder), vocabulary)
    said = f"{SIZE} tokens, CPU time"
    yield Figure(
        "structured_vocabulary", ours["vocabulary_s"] * 1e3, "ms", "lower", peer["vocabulary_s"] * 1e3, _PEER,
        conditions=f"{said}, once per process",
    )  # fmt: skip
    yield Figure(
        "structured_schema", ours["grammar_s"] * 1e3, "ms", "lower", peer["grammar_s"] * 1e3, _PEER, Budget(50),
        f"{said}, checked and compiled at its first request, median of {ROUNDS}",
    )  # fmt: skip
    yield Figure("structured_schema_again", ours["again_s"] * 1e3, "ms", "lower", conditions=f"{said}, later requests")
    for name, place, budget in (("p50", 0.5, None), ("p95", 0.95, Budget(0.3)), ("max", 1.0, None)):
        values = (_quantile(each["masks_s"], place) * 1e3 for each in (ours, peer))
        mine, theirs = values
        conditions = f"{said}, computed and applied to the logits, {len(ours['masks_s'])} tokens of {SEEDS} answers"
        yield Figure(f"structured_mask_{name}", mine, "ms", "lower", theirs, _PEER, budget, conditions)
    yield Figure(
        "structured_forced", ours["forced"] * 100, "%", "higher", conditions="tokens that needed no run of their own"
    )


def _ours(vocabulary: Vocabulary) -> dict[str, Any]:
    eos = tuple(range(len(SPECIALS)))
    started = time.process_time()
    grammars = Grammars(vocabulary, SIZE, eos)
    grammars.open('start: "a"\n', "bench")
    ready = time.process_time()
    first, again = [], []
    for number in range(ROUNDS):
        began = time.process_time()
        schema = plain(SCHEMA | {"title": str(number)}, "bench")
        # Another name in each round: a grammar that was seen is kept.
        text = write(Wanted(answer=schema), None, None, lambda text: (text,)) + f'unused{number}: "a"\n'
        grammars.open(text, "bench")
        first.append(time.process_time() - began)
        began = time.process_time()
        grammars.open(text, "bench")
        again.append(time.process_time() - began)
    masks: list[float] = []
    forced = chosen = 0
    for seed in range(SEEDS):
        chance, constraint = random.Random(seed), grammars.open(text, "bench")
        row = np.zeros(SIZE, np.float32)
        while not constraint.ended and chosen < 200 * SEEDS:
            began = time.process_time()
            constraint.mask(row)
            masks.append(time.process_time() - began)
            allowed = np.flatnonzero(row == 0).tolist()
            row[:] = 0
            forced += len(constraint.take(chance.choice(allowed)))
            chosen += 1
    return {
        "vocabulary_s": ready - started,
        "grammar_s": statistics.median(first),
        "again_s": statistics.median(again),
        "masks_s": masks,
        "forced": forced / (forced + chosen),
    }


def _peer(folder: Path, vocabulary: Vocabulary) -> dict[str, Any]:
    tokens = [None if n in vocabulary.controls else vocabulary.raw(n).hex() for n in range(SIZE)]
    (folder / "vocabulary.json").write_text(json.dumps(tokens))
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    arguments = [folder / "vocabulary.json", folder / "schema.json", SEEDS]
    found: dict[str, Any] = json.loads(run([outlines(), "-m", "bench.peers.structured", *map(str, arguments)]).output)
    return found


def _quantile(values: list[float], place: float) -> float:
    return sorted(values)[min(len(values) - 1, int(place * len(values)))]
