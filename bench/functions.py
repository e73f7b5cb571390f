"""Group ``function_*``: a function of Lambda from the start of its process to its first search, and what its zips weigh.

The peer is the same spec as a server on a port: what a sandbox would pay for uvicorn and asyncio, and for hashing again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import builds
from bench.figure import Budget, Figure
from bench.load import Connection, encode
from bench.rounds import Reading, interleave, medians, spread
from bench.server import Server, artifact
from bench.worker import BenchError, cpu_seconds
from lsbuild_targets.aws_lambda import doors, record, unpack
from lsbuild_targets.aws_lambda.mock import Mock
from lsbuild_targets.aws_lambda.sandbox import Start, process, start

NAMES = ("function_cold_start_cpu", "function_zip")
ROUNDS = 15
_SEARCH = "/v1/vector_stores/docs/search"
_QUESTION = {"query": "How do I read a compressed file line by line?", "max_num_results": 3}


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """One search embeds its query: it is the first embedding as well. The lowest of the rounds counts: noise only adds."""
    path = builds.function()
    known = record.read(path)
    if known is None:
        raise BenchError(f"{path} is no artifact of target lambda")
    if "function_cold_start_cpu" in names:
        yield _cold_start(path, known)
    if "function_zip" in names:
        weights = sum(each.size for each in known.zips if "python" not in each.file)
        yield Figure(
            name="function_zip",
            ours=weights / 1e6,
            unit="MB",
            better="lower",
            budget=Budget(45.0),
            conditions=f"function and layers with MiniLM (8-bit) and {builds.PASSAGES} passages, without the layer of Python",
        )


def _cold_start(path: Path, known: record.Record) -> Figure:
    with TemporaryDirectory(prefix="bench-lambda-") as folder:
        scratch = Path(folder)
        ready = start(known, unpack.lay_out(path, known, scratch), scratch)
        contestants = {
            "ours": partial(_function, ready, scratch),
            "peer": partial(_server, builds.function_as_server()),
        }
        for once in contestants.values():
            once(-1)
        readings = interleave(contestants, ROUNDS)
    return Figure(
        name="function_cold_start_cpu",
        ours=min(reading["cpu"] for reading in readings["ours"]),
        peer=min(reading["cpu"] for reading in readings["peer"]),
        unit="CPU-ms",
        better="lower",
        peer_name="the same spec as a server on a port",
        budget=Budget(250.0),
        conditions=f"process start to the first search, least of {ROUNDS} interleaved starts; ours "
        f"{spread(readings['ours'], 'cpu')}, median {medians(readings['ours'])['cpu']:.0f}, load {os.getloadavg()[0]:.0f}",
    )


def _function(ready: Start, scratch: Path, _number: int) -> Reading:
    body = json.dumps(_QUESTION).encode()
    event = doors.event("POST", _SEARCH, [("content-type", "application/json")], body, streams=False)
    began = time.perf_counter()
    with Mock().serve() as mock:
        environment = {**ready.environment, "AWS_LAMBDA_RUNTIME_API": mock.address}
        with process(ready.command, environment, scratch) as (running, _log):
            answer = doors.answer(b"".join(mock.invoke(event)))
            cpu, wall = cpu_seconds(running.pid), time.perf_counter() - began
            mock.end()
    if answer.status != 200:
        raise BenchError(f"the function answered {answer.status}: {answer.body[:200]!r}")
    return {"cpu": 1000 * cpu, "wall": 1000 * wall}


def _server(path: Path, _number: int) -> Reading:
    with Server(artifact(path)) as running, closing(Connection(running.host, running.port)) as connection:
        connection.ask(encode("localhost", _SEARCH, _QUESTION))
        return {"cpu": 1000 * running.cpu_s(), "wall": 1000 * (time.perf_counter() - running.started)}
