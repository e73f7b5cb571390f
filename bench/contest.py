"""Several engines over one corpus: built, opened cold, tuned to one recall, asked in turn; knows no figure's name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.corpora import QUERIES, Corpus
from bench.environment import ours, peer
from bench.nearest import K
from bench.rounds import Reading, interleave, medians
from bench.worker import Cost, Worker, run

ROUNDS, COLD_ROUNDS, WARM_UP = 4, 3, 8
SHARE_S = 20.0
"""Wall seconds that one engine may take in one round: a scan of a million vectors answers fewer queries."""
BUILD_LIMIT_S = 3600.0
SLACK = 0.002
"""A peer's knob is turned up until its recall is ours, less this."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Contestant:
    """``build`` gives the command that writes ``file``; ``search`` begins the one that searches it (`bench.nearest`).

    ``efforts`` are the values of its knob, least first.
    """

    label: str
    file: str
    build: Callable[[Corpus, Path], list[str]]
    search: Callable[[], list[str]]
    knob: str = ""
    efforts: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Result:
    """What one engine did. Times of a query are the median and the 95th percentile of ``queries`` of them.

    ``cold_*``: opening and the first query, imports done, the file not in memory; ``start_*``: the same from the start of
    the process to its end. ``rss_mb``: resident after all queries, mapped pages of the file included.
    """

    label: str
    build_s: float
    build_cpu_s: float
    build_mb: float
    file_mb: float
    rss_mb: float
    cold_ms: float
    cold_cpu_ms: float
    start_ms: float
    start_cpu_ms: float
    query_cpu_ms: float
    query_cpu_p95_ms: float
    query_wall_ms: float
    recall: float
    queries: int
    effort: str
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """An entry of retrieval.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Built:
    cost: Cost
    said: Mapping[str, Any]
    path: Path


def _ours(corpus: Corpus, out: Path) -> list[str]:
    return ours("index", corpus.shards, out.parent)


def _peer(module: str, program: str) -> Callable[[Corpus, Path], list[str]]:
    return lambda corpus, out: peer(module, program, corpus.vectors, out)


_POWERS = tuple(1 << power for power in range(12))
_FLAT = _peer("nearest_sqlite", "build")
CONTESTANTS = {
    "ours": Contestant("ours, default settings", "ours/index.db", _ours, partial(ours, "nearest")),
    "flat": Contestant("sqlite-vec float32 flat", "flat.db", _FLAT, partial(peer, "nearest_sqlite", "reused")),
    "naive": Contestant(
        "the same, a connection per query (as OGX)", "flat.db", _FLAT, partial(peer, "nearest_sqlite", "each")
    ),
    "ivf": Contestant(
        "faiss IVF, 8-bit", "ivf.faiss", _peer("nearest_faiss", "build-ivf"), partial(peer, "nearest_faiss", "ivf"),
        "nprobe", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    ),
    "hnsw": Contestant(
        "faiss HNSW32, float32", "hnsw.faiss", _peer("nearest_faiss", "build-hnsw"),
        partial(peer, "nearest_faiss", "hnsw"), "efSearch", _POWERS[4:],
    ),
    "numpy": Contestant(
        "numpy brute force float32", "flat.npy", _peer("nearest_numpy", "build"), partial(peer, "nearest_numpy", "flat")
    ),
}  # fmt: skip


def contest(corpus: Corpus) -> dict[str, Result]:
    """All engines over ``corpus``; what they built is removed afterwards."""
    folder = corpus.folder / "built"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        built = _build_all(corpus, folder)
        efforts = _tune_all(corpus, built)
        cold = {
            name: medians(each)
            for name, each in interleave(
                {name: partial(_cold, name, corpus, built[name], efforts[name]) for name in built}, COLD_ROUNDS
            ).items()
        }
        return _ask_all(corpus, built, efforts, cold)
    finally:
        shutil.rmtree(folder)


def recall(found: Sequence[Sequence[int]], exact: Sequence[set[int]]) -> float:
    """Share of the K true neighbours that were found, mean over the queries that were asked."""
    pairs = list(zip(found, exact, strict=False))
    return sum(len(truth.intersection(rows)) for rows, truth in pairs) / (K * len(pairs))


def evict(path: Path) -> None:
    """Ask the kernel to forget the pages of a file that nobody has open."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _build_all(corpus: Corpus, folder: Path) -> dict[str, _Built]:
    made: dict[str, _Built] = {}
    for each in CONTESTANTS.values():
        if each.file not in made:
            path = folder / each.file
            cost = run(each.build(corpus, path), limit_s=BUILD_LIMIT_S)
            made[each.file] = _Built(cost, json.loads(cost.output.splitlines()[-1]), path)
    return {name: made[each.file] for name, each in CONTESTANTS.items()}


def _worker(name: str, corpus: Corpus, built: _Built) -> Worker:
    return Worker([*CONTESTANTS[name].search(), "serve", str(built.path), str(corpus.queries)], env=ONE_THREAD)


def _tune_all(corpus: Corpus, built: Mapping[str, _Built]) -> dict[str, int]:
    """The effort of each peer with a knob that finds as much as we do."""
    efforts = {name: each.efforts[-1] for name, each in CONTESTANTS.items()}
    with _worker("ours", corpus, built["ours"]) as worker:
        wanted = _reached(corpus, worker, efforts["ours"])
    for name, each in CONTESTANTS.items():
        if each.knob:
            with _worker(name, corpus, built[name]) as worker:
                efforts[name] = least(each.efforts, partial(_reached, corpus, worker), wanted)
    return efforts


def least(efforts: Sequence[int], reached: Callable[[int], float], wanted: float) -> int:
    """The first of ``efforts`` whose recall is ``wanted``, less SLACK; when none is, the first that is as good as the best."""
    recalls: list[float] = []
    for effort in efforts:
        recalls.append(reached(effort))
        if recalls[-1] >= wanted - SLACK:
            return effort
    return next(effort for effort, each in zip(efforts, recalls, strict=True) if each >= max(recalls) - SLACK)


def _reached(corpus: Corpus, worker: Worker, effort: int) -> float:
    return recall(_ask(worker, 0, QUERIES, effort)["found"], corpus.exact())


def _ask(worker: Worker, first: int, count: int, effort: int) -> dict[str, Any]:
    return worker.ask(limit_s=600.0, first=first, count=count, effort=effort, within_s=SHARE_S)


def _cold(name: str, corpus: Corpus, built: _Built, effort: int, _number: int) -> Reading:
    evict(built.path)
    command = [*CONTESTANTS[name].search(), "once", str(built.path), str(corpus.queries), str(effort)]
    cost = run(command, env=ONE_THREAD)
    inside = json.loads(cost.output)
    return {"wall": inside["wall_s"], "cpu": inside["cpu_s"], "start": cost.wall_s, "start_cpu": cost.cpu_s}


def _ask_all(
    corpus: Corpus,
    built: Mapping[str, _Built],
    efforts: Mapping[str, int],
    cold: Mapping[str, Mapping[str, float]],
) -> dict[str, Result]:
    """Fresh processes, all open at the same time and asked in turn."""
    share = QUERIES // ROUNDS
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in built}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_worker(name, corpus, each)) for name, each in built.items()}
        for name, worker in workers.items():
            _ask(worker, 0, WARM_UP, efforts[name])
        for number in range(ROUNDS):
            for name, worker in workers.items():
                answers[name].append(_ask(worker, number * share, share, efforts[name]))
    return {name: _result(name, corpus, built[name], efforts[name], cold[name], answers[name]) for name in built}


def _result(
    name: str,
    corpus: Corpus,
    built: _Built,
    effort: int,
    cold: Mapping[str, float],
    answers: Sequence[dict[str, Any]],
) -> Result:
    exact, share = corpus.exact(), QUERIES // ROUNDS
    cpu = [value for answer in answers for value in answer["cpu_ms"]]
    found = [rows for answer in answers for rows in answer["found"]]
    truth = [each for number, answer in enumerate(answers) for each in exact[number * share :][: len(answer["found"])]]
    knob = CONTESTANTS[name].knob
    return Result(
        label=CONTESTANTS[name].label,
        build_s=built.cost.wall_s,
        build_cpu_s=built.cost.cpu_s,
        build_mb=built.said["peak_mb"],
        file_mb=built.path.stat().st_size / 1e6,
        rss_mb=answers[-1]["rss_mb"],
        cold_ms=1000 * cold["wall"],
        cold_cpu_ms=1000 * cold["cpu"],
        start_ms=1000 * cold["start"],
        start_cpu_ms=1000 * cold["start_cpu"],
        query_cpu_ms=median(cpu),
        query_cpu_p95_ms=quantiles(cpu, n=20)[-1],
        query_wall_ms=median(value for answer in answers for value in answer["wall_ms"]),
        recall=recall(found, truth),
        queries=len(cpu),
        effort=f"{knob} {effort}" if knob else "",
        facts=built.said.get("facts", {}),
    )
