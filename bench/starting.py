"""Group ``cold_start_*``: from the start of the process to the first answer, ours against what one writes by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial

from bench import builds
from bench.environment import CACHE, minilm, peer
from bench.figure import Budget, Figure
from bench.load import Connection, encode
from bench.rounds import Reading, interleave, medians
from bench.sentences import sentences
from bench.server import Server, artifact
from bench.worker import run

ROUNDS = 5
QUESTION = "Which command prints the schema?"
HEALTH = (encode("localhost", "/v1/health", None),)
SEARCH = (
    encode("localhost", "/v1/embeddings", {"model": "embed", "input": QUESTION}),
    encode("localhost", "/v1/vector_stores/docs/search", {"query": QUESTION, "max_num_results": 3}),
)
PEERS = {"health": "FastAPI and uvicorn", "search": "FastAPI, sentence-transformers (torch), numpy"}
BUDGETS = {
    ("search", "cpu"): Budget(250.0), ("search", "rss"): Budget(120.0), ("health", "rss"): Budget(40.0),
}  # fmt: skip
UNITS = {"wall": "ms", "cpu": "CPU-ms", "rss": "MB"}
NAMES = tuple(f"cold_start_{what}{'' if q == 'wall' else '_' + q}" for what in PEERS for q in UNITS)


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """``health`` opens nothing; ``search`` is an embedding and then a search, which opens model and index."""
    mine = artifact(builds.search())
    for what, requests, theirs in (("health", HEALTH, _health_peer), ("search", SEARCH, _search_peer)):
        if not any(name.startswith(f"cold_start_{what}") for name in names):
            continue
        contestants = {
            "ours": partial(start, partial(Server, mine), requests),
            "peer": partial(start, partial(Server, theirs()), requests),
        }
        for once in contestants.values():
            once(-1)  # fills the page cache and writes bytecode
        readings = interleave(contestants, ROUNDS)
        middle = {name: medians(each) for name, each in readings.items()}
        for quantity, unit in UNITS.items():
            yield Figure(
                name=f"cold_start_{what}{'' if quantity == 'wall' else '_' + quantity}",
                ours=middle["ours"][quantity],
                peer=middle["peer"][quantity],
                unit=unit,
                better="lower",
                peer_name=PEERS[what],
                budget=BUDGETS.get((what, quantity)),
                conditions=f"process start to the last answer, warm page cache, median of {ROUNDS} interleaved starts",
            )


def start(server: Callable[[], Server], requests: Sequence[bytes], _number: int) -> Reading:
    """Start a server, send ``requests`` on one connection, stop it: ms of wall and CPU time, MB resident."""
    with server() as running, closing(Connection(running.host, running.port)) as connection:
        for request in requests:
            connection.ask(request)
        wall = time.perf_counter() - running.started
        return {"wall": 1000 * wall, "cpu": 1000 * running.cpu_s(), "rss": running.rss_mb()}


def _health_peer() -> list[str]:
    return peer("search")


def _search_peer() -> list[str]:
    passages = CACHE / "passages.json"
    if not passages.with_suffix(".npy").exists():
        passages.write_text(json.dumps(sentences()))
        run(peer("vectors", minilm(), passages))
    return peer("search", minilm(), passages)
