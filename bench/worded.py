"""Search by words and by both over real text, ours against default FTS5 with a flat sqlite-vec table; knows no figure's name."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.contest import BUILD_LIMIT_S, ONE_THREAD, ROUNDS, SHARE_S, WARM_UP
from bench.corpora import QUERIES, Corpus
from bench.environment import ours, peer
from bench.ours.store import service
from bench.worker import Worker, run

PEER = "default FTS5 table, sqlite-vec float32 flat, rank fusion in Python"
MODES = {
    "keyword": ("keyword", False),
    "keyword_filter": ("keyword", True),
    "hybrid": ("hybrid", False),
    "hybrid_filter": ("hybrid", True),
}
"""Figure -> (mode, whether the search is filtered to a quarter of the documents)."""


@dataclass(frozen=True, slots=True)
class Latency:
    """CPU milliseconds of one search, median and 95th percentile, of both sides."""

    ours: float
    ours_p95: float
    peer: float
    peer_p95: float
    queries: int

    def to_json(self) -> dict[str, Any]:
        """An entry of retrieval.json."""
        return asdict(self)


def compare(corpus: Corpus) -> dict[str, Latency]:
    """Every mode, both sides open at the same time and asked in turn; what was built is removed afterwards."""
    folder = corpus.folder / "worded"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        root, naive = folder / "root", folder / "naive.db"
        run(ours("index", corpus.shards, root / service().path), limit_s=BUILD_LIMIT_S)
        run(peer("text_sqlite", "build", corpus.texts, corpus.vectors, naive), limit_s=BUILD_LIMIT_S)
        return _ask_all(corpus, root, naive)
    finally:
        shutil.rmtree(folder)


def _ask_all(corpus: Corpus, root: Path, naive: Path) -> dict[str, Latency]:
    with ExitStack() as stack:
        files = (corpus.queries, corpus.questions)
        commands = {"ours": ours("text", root, *files), "peer": peer("text_sqlite", "serve", naive, *files)}
        workers = {name: stack.enter_context(Worker(each, env=ONE_THREAD)) for name, each in commands.items()}
        return {name: _mode(workers, *mode) for name, mode in MODES.items()}


def _mode(workers: dict[str, Worker], mode: str, filtered: bool) -> Latency:
    request = {"mode": mode, "filtered": filtered, "within_s": SHARE_S}
    for worker in workers.values():
        worker.ask(first=0, count=WARM_UP, **request)
    share = QUERIES // ROUNDS
    spent: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(ROUNDS):
        for name, worker in workers.items():
            spent[name] += worker.ask(first=number * share, count=share, **request)["cpu_ms"]
    mine, theirs = spent["ours"], spent["peer"]
    return Latency(
        ours=median(mine),
        ours_p95=quantiles(mine, n=20)[-1],
        peer=median(theirs),
        peer_p95=quantiles(theirs, n=20)[-1],
        queries=len(mine),
    )
