"""Group ``embeddings_*``: sentences per second of our encoder and of sentence-transformers, and how near the vectors are."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.artefacts import encoder
from bench.environment import minilm, ours, peer
from bench.figure import Budget, Figure
from bench.rounds import Reading, interleave, medians, spread
from bench.sentences import sentences
from bench.worker import Worker

ROUNDS = 5
BATCHES = (1, 32)


@dataclass(frozen=True, slots=True)
class Mode:
    """One of our formats and the design's budgets for it: times the peer's speed, mean cosine to the peer's vectors."""

    quantize: str
    speed: float
    cosine: float


MODES = {"int8": Mode("int8", 2.0, 0.999), "fast": Mode("int8-fast", 4.0, 0.99)}
PEER = "sentence-transformers, torch float32"
NAMES = tuple(
    f"embeddings_{mode}_{rest}"
    for mode in MODES
    for rest in (*(f"b{n}{c}" for n in BATCHES for c in ("", "_cpu")), "cosine")
)


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """All three encoders are loaded at the same time and asked in turn, one thread each."""
    modes = [mode for mode in MODES if any(name.startswith(f"embeddings_{mode}_") for name in names)]
    texts = sentences()
    with ExitStack() as stack:
        workers = {mode: stack.enter_context(Worker(ours("embed", encoder(MODES[mode].quantize), 1))) for mode in modes}
        workers["peer"] = stack.enter_context(Worker(peer("embed", minilm(), 1)))
        vectors = {name: _vectors(worker.ask(texts=texts, batch=32)) for name, worker in workers.items()}
        for batch in BATCHES:
            yield from _speed(workers, texts, batch)
    for mode in modes:
        yield _closeness(mode, vectors[mode], vectors["peer"])


def _speed(workers: dict[str, Worker], texts: list[str], batch: int) -> Iterator[Figure]:
    readings = interleave({name: partial(_ask, worker, texts, batch) for name, worker in workers.items()}, ROUNDS)
    middle = {name: medians(each) for name, each in readings.items()}
    for mode in [name for name in workers if name != "peer"]:
        for clock, unit in (("", "sentences/s"), ("_cpu", "sentences/CPU-s")):
            quantity = "speed" + clock
            yield Figure(
                name=f"embeddings_{mode}_b{batch}{clock}",
                ours=middle[mode][quantity],
                peer=middle["peer"][quantity],
                unit=unit,
                better="higher",
                peer_name=PEER,
                budget=None if clock else Budget(MODES[mode].speed, "ratio"),
                conditions=(
                    f"all-MiniLM-L6-v2, {len(texts)} docstrings, 1 thread, {batch} in a call, median of {ROUNDS} "
                    f"interleaved rounds, ours {spread(readings[mode], quantity)}, "
                    f"peer {spread(readings['peer'], quantity)}"
                ),
            )


def _ask(worker: Worker, texts: list[str], batch: int, number: int) -> Reading:  # noqa: ARG001 - one of a round's calls
    answer = worker.ask(texts=texts, batch=batch)
    return {"speed": len(texts) / answer["wall_s"], "speed_cpu": len(texts) / answer["cpu_s"]}


def _vectors(answer: dict[str, Any]) -> NDArray[np.float32]:
    """f32[N, 384], unit length."""
    return np.frombuffer(base64.b64decode(answer["vectors"]), "<f4").reshape(-1, 384)


def _closeness(mode: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Figure:
    """Mean cosine; the same nearest neighbour (itself excepted) is told beside it."""
    cosines = (found * expected).sum(axis=1)
    nearest = [(each @ each.T - 2 * np.eye(len(each))).argmax(axis=1) for each in (found, expected)]
    return Figure(
        name=f"embeddings_{mode}_cosine",
        ours=float(cosines.mean()),
        peer=1.0,
        unit="cosine",
        better="higher",
        peer_name=PEER,
        budget=Budget(MODES[mode].cosine),
        conditions=(
            f"all-MiniLM-L6-v2, {len(found)} docstrings, least {cosines.min():.4f}, "
            f"same nearest neighbour {np.mean(nearest[0] == nearest[1]):.3f}"
        ),
    )
