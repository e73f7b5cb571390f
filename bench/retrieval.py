"""Group ``retrieval_*``: one search among clustered vectors and among real text, ours beside sqlite-vec, faiss and numpy.

``retrieval_docs``: paragraphs of the standard library, the hard case; ``retrieval_10k`` and ``retrieval_100k``: a mixture
whose lists are easy to find; ``retrieval_1m`` only when it is asked for by name. Tables of everything that was measured are
kept in results/retrieval.md, the last run of each corpus.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.contest import CONTESTANTS, Result, contest
from bench.corpora import Corpus, clustered, documentation
from bench.figure import Budget, Figure
from bench.machine import Noise, describe, read_bandwidth
from bench.tables import Vectors, Words, render
from bench.worded import MODES, PEER, Latency, compare

CORPORA: Mapping[str, Callable[[str], Corpus]] = {
    "docs": documentation,
    "10k": partial(clustered, count=10_000),
    "100k": partial(clustered, count=100_000),
    "1m": partial(clustered, count=1_000_000),
}
QUANTITIES = {
    "query_cpu": ("query_cpu_ms", "CPU-ms"),
    "query_cpu_p95": ("query_cpu_p95_ms", "CPU-ms"),
    "recall": ("recall", "recall@10"),
    "cold": ("cold_ms", "ms"),
    "cold_cpu": ("cold_cpu_ms", "CPU-ms"),
    "build_cpu": ("build_cpu_s", "CPU-s"),
    "build_rss": ("build_mb", "MB"),
    "file": ("file_mb", "MB"),
    "rss": ("rss_mb", "MB"),
}
"""Figure -> (attribute of a Result, unit); the peer of these is sqlite-vec's flat scan on one connection."""
OTHERS = tuple(name for name in CONTESTANTS if name not in ("ours", "flat"))
_VECTORS = (*QUANTITIES, *(f"query_cpu_vs_{name}" for name in OTHERS))
_WORDS = tuple(f"{mode}_cpu" for mode in MODES)
NAMES = tuple(f"retrieval_{corpus}_{each}" for corpus in CORPORA for each in _VECTORS) + tuple(
    f"retrieval_docs_{each}" for each in _WORDS
)
ON_REQUEST = "retrieval_1m"
"""Figures that are measured only when their names are asked for with at least so many letters."""
BUDGETS = {
    ("docs", "query_cpu"): Budget(0.25, "ratio"),
    ("1m", "query_cpu"): Budget(5.0),
    ("1m", "cold"): Budget(250.0),
    ("1m", "file"): Budget(450.0),
    ("1m", "rss"): Budget(50.0),
    **{(corpus, "recall"): Budget(0.95) for corpus in CORPORA},
}
TABLES = Path(__file__).resolve().parent / "results" / "retrieval.md"


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """Corpora are made first when the cache has none: the real one takes 4 CPU minutes, once."""
    for corpus, make in CORPORA.items():
        asked = {name.removeprefix(f"retrieval_{corpus}_") for name in names if name.startswith(f"retrieval_{corpus}_")}
        if asked & set(_VECTORS):
            yield from _vectors(make(corpus))
        if asked & set(_WORDS):
            yield from _words(make(corpus))


def report() -> str:
    """The tables of all corpora that were ever measured here."""
    return TABLES.read_text()


def _vectors(corpus: Corpus) -> Iterator[Figure]:
    noise, bandwidth = Noise(), read_bandwidth()
    results = contest(corpus)
    rows = {name: each.to_json() for name, each in results.items()}
    _keep(corpus, "vectors", noise, {"bandwidth": bandwidth, "rows": rows})
    mine = results["ours"]
    said = f"{corpus.count} vectors of 384, {mine.queries} held-out queries, 1 thread, ours at recall {mine.recall:.3f}"
    for name, (attribute, unit) in QUANTITIES.items():
        yield Figure(
            name=f"retrieval_{corpus.name}_{name}",
            ours=getattr(mine, attribute),
            peer=getattr(results["flat"], attribute),
            unit=unit,
            better="higher" if name == "recall" else "lower",
            peer_name=results["flat"].label,
            budget=BUDGETS.get((corpus.name, name)),
            conditions=said,
        )
    for name in OTHERS:
        peer = results[name]
        yield Figure(
            name=f"retrieval_{corpus.name}_query_cpu_vs_{name}",
            ours=mine.query_cpu_ms,
            peer=peer.query_cpu_ms,
            unit="CPU-ms",
            better="lower",
            peer_name=f"{peer.label} {peer.effort}".rstrip(),
            conditions=f"{said}, peer at recall {peer.recall:.3f}, {peer.queries} queries",
        )


def _words(corpus: Corpus) -> Iterator[Figure]:
    noise = Noise()
    found = compare(corpus)
    _keep(corpus, "words", noise, {"rows": {name: each.to_json() for name, each in found.items()}})
    for name, each in found.items():
        yield Figure(
            name=f"retrieval_{corpus.name}_{name}_cpu",
            ours=each.ours,
            peer=each.peer,
            unit="CPU-ms",
            better="lower",
            peer_name=PEER,
            conditions=(
                f"{corpus.count} passages, {each.queries} questions of 12 words, ten passages with their texts, the "
                f"query's vector given; 95th percentile ours {each.ours_p95:.2f}, peer {each.peer_p95:.2f}"
            ),
        )


def _keep(corpus: Corpus, part: str, noise: Noise, measured: dict[str, Any]) -> None:
    """Put what was measured into results/retrieval.json and write the tables again."""
    path, machine = TABLES.with_suffix(".json"), describe()
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    said = f"{date}, {machine.cpu}, {machine.cores} cores, Python {machine.python}; {noise.report()}."
    known.setdefault(corpus.name, {})[part] = {"count": corpus.count, "said": said, **measured}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1))
    TABLES.write_text(render(list(_sections(known))))


def _sections(known: Mapping[str, Any]) -> Iterator[Vectors | Words]:
    """What was kept, in the order of the corpora."""
    for name in CORPORA:
        for part, entry in sorted(known.get(name, {}).items()):
            if part == "vectors":
                rows = {each: Result(**row) for each, row in entry["rows"].items()}
                yield Vectors(name, entry["count"], entry["said"], entry["bandwidth"], rows)
            else:
                modes = {each: Latency(**row) for each, row in entry["rows"].items()}
                yield Words(name, entry["count"], entry["said"], modes)
