"""What is searched: clustered vectors of any number, and real text with its MiniLM vectors; made once and kept in the cache.

Everything is seeded. Queries are held out: none of them is in the corpus. The true neighbours come from float32 products.
"""

from __future__ import annotations

import base64
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.artefacts import encoder
from bench.environment import CACHE, ours
from bench.nearest import DIMENSIONS, WIDTH, K
from bench.prose import Document, documents
from bench.worker import Worker, run

FOLDER = CACHE / "retrieval"
QUERIES = 256
REAL = 24_000
"""Passages of the real corpus, at most."""
CENTRES, POINTS, SPREAD, DECAY = 4000, 25, 0.3, 0.4
"""The mixture: at most CENTRES, and at least POINTS of each. A point lies SPREAD times as far from its centre as the centre
from the origin; the standard deviation along the n-th axis falls as n^-DECAY, and the axes are turned, since the components
of real embeddings vary alike. Of 100,000 such vectors 8 of 512 lists hold 0.98 of the ten nearest, and 8-bit vectors rank 0.99
of them among the first ten: lists are easy to find in it."""
BLOCK = 50_000

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder of files. A ``real`` one has texts (``texts``, and ``questions`` for the queries)."""

    name: str
    folder: Path
    real: bool

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return self.vectors.stat().st_size // WIDTH

    @property
    def vectors(self) -> Path:
        """float32 [count, DIMENSIONS], unit length."""
        return self.folder / "vectors.f32"

    @property
    def queries(self) -> Path:
        """float32 [QUERIES, DIMENSIONS], unit length."""
        return self.folder / "queries.f32"

    @property
    def texts(self) -> Path:
        """JSON, ``[[name, [text, ...]], ...]`` in the order of the vectors."""
        return self.folder / "texts.json"

    @property
    def questions(self) -> Path:
        """JSON, one text for each query."""
        return self.folder / "questions.json"

    @property
    def shards(self) -> Path:
        """The corpus as our passages step would have written it."""
        return self.folder / "shards"

    def exact(self) -> list[set[int]]:
        """For each query the rows of its K nearest vectors."""
        return [set(row) for row in np.fromfile(self.folder / "exact.i32", "<i4").reshape(-1, K).tolist()]


def clustered(name: str, count: int) -> Corpus:
    """``count`` vectors of a Gaussian mixture with a decaying spectrum."""

    def make(folder: Path) -> None:
        centres = min(CENTRES, count // POINTS)
        sizes = (min(BLOCK, count - first) for first in range(0, count, BLOCK))
        blocks = (mixture(seed, size, centres) for seed, size in enumerate(sizes, start=1))
        _write(folder, blocks, mixture(0, QUERIES, centres))

    return _kept(Corpus(name, FOLDER / name, real=False), make)


def documentation(name: str) -> Corpus:
    """Paragraphs of the standard library's documentation, embedded by our 8-bit MiniLM (its fast form)."""

    def make(folder: Path) -> None:
        kept, questions = held_out(documents())
        texts = [text for _, paragraphs in kept for text in paragraphs]
        vectors = embed([*texts, *questions])
        (folder / "texts.json").write_text(json.dumps(kept))
        (folder / "questions.json").write_text(json.dumps(questions))
        _write(folder, iter([vectors[: len(texts)]]), vectors[len(texts) :])

    return _kept(Corpus(name, FOLDER / name, real=True), make)


def held_out(found: list[Document]) -> tuple[list[Document], list[str]]:
    """At most REAL paragraphs, and QUERIES others, evenly spread, as the first words of which users would ask."""
    step = max(2, sum(len(paragraphs) for _, paragraphs in found) // QUERIES)
    number, total = 0, 0
    kept: list[Document] = []
    questions: list[str] = []
    for name, paragraphs in found:
        staying = []
        for text in paragraphs:
            number += 1
            if number % step == 0 and len(questions) < QUERIES:
                questions.append(" ".join(text.split()[:12]))
            elif total < REAL:
                staying.append(text)
                total += 1
        if staying:
            kept.append((name, staying))
    return kept, questions


def mixture(seed: int, count: int, centres: int = CENTRES) -> Floats:
    """float32 [count, DIMENSIONS] of unit length; the centres are the same for every seed."""
    spectrum = (1.0 + np.arange(DIMENSIONS, dtype=np.float32)) ** -DECAY
    means = np.random.default_rng(0).standard_normal((centres, DIMENSIONS), dtype=np.float32)
    random = np.random.default_rng([1, seed])
    own = means[random.integers(0, centres, count)]
    points = (own + SPREAD * random.standard_normal((count, DIMENSIONS), dtype=np.float32)) * spectrum @ _axes()
    unit: Floats = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


@functools.cache
def _axes() -> Floats:
    """float32 [DIMENSIONS, DIMENSIONS]: a rotation."""
    turned: Floats = np.linalg.qr(np.random.default_rng(2).standard_normal((DIMENSIONS, DIMENSIONS)))[0].astype(
        np.float32
    )
    return turned


def embed(texts: list[str]) -> Floats:
    """float32 [texts, DIMENSIONS]; two encoders with one thread each."""
    parts = [texts[first : first + 500] for first in range(0, len(texts), 500)]
    command = ours("embed", encoder("int8-fast"), 1)
    with Worker(command) as one, Worker(command) as other, ThreadPoolExecutor(2) as pool:

        def some(worker: Worker, first: int) -> list[Floats]:
            answers = (worker.ask(limit_s=900.0, texts=part, batch=1)["vectors"] for part in parts[first::2])
            return [np.frombuffer(base64.b64decode(each), "<f4").reshape(-1, DIMENSIONS) for each in answers]

        left, right = pool.submit(some, one, 0), pool.submit(some, other, 1)
        halves = (left.result(), right.result())
    return np.concatenate([halves[number % 2][number // 2] for number in range(len(parts))])


def nearest(vectors: Floats, queries: Floats) -> NDArray[np.int32]:
    """int32 [queries, K]: rows with the largest products, best first."""
    best = np.zeros((len(queries), 0), np.int32)
    scores = np.zeros((len(queries), 0), np.float32)
    for first in range(0, len(vectors), BLOCK):
        found = queries @ vectors[first : first + BLOCK].T
        rows = np.argpartition(-found, min(K, found.shape[1] - 1), axis=1)[:, :K]
        scores = np.hstack([scores, np.take_along_axis(found, rows, 1)])
        best = np.hstack([best, rows.astype(np.int32) + first])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        scores, best = np.take_along_axis(scores, order, 1), np.take_along_axis(best, order, 1)
    return best


def _write(folder: Path, blocks: Iterator[Floats], queries: Floats) -> None:
    with (folder / "vectors.f32").open("wb") as file:
        for block in blocks:
            file.write(block.astype("<f4").tobytes())
    (folder / "queries.f32").write_bytes(queries.astype("<f4").tobytes())
    vectors = np.memmap(folder / "vectors.f32", "<f4", "r").reshape(-1, DIMENSIONS)
    (folder / "exact.i32").write_bytes(nearest(vectors, queries).astype("<i4").tobytes())


def _kept(corpus: Corpus, make: Callable[[Path], None]) -> Corpus:
    """Make the folder when it is not there, and our shards of it."""
    if not corpus.folder.exists():
        partial = corpus.folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(corpus.folder)
    if not corpus.shards.exists():
        partial = corpus.shards.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        run(ours("shards", corpus.vectors, partial, *([corpus.texts] if corpus.real else [])), limit_s=900.0)
        partial.rename(corpus.shards)
    return corpus
