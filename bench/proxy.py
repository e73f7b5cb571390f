"""Group ``proxy_*``: what a server between client and cloud costs; ours, a hand-written one, and none at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench import builds
from bench.environment import peer
from bench.figure import Budget, Figure
from bench.load import drive, encode
from bench.rounds import Reading, interleave, medians, spread
from bench.server import Server, artifact

ROUNDS = 5
ALONE, TOGETHER, CONNECTIONS = 200, 800, 8
PEER = "FastAPI and the openai SDK under uvicorn[standard]"
NAMES = ("proxy_overhead_p50", "proxy_rps_8", "proxy_cpu")
_BODY = {
    "messages": [{"role": "user", "content": "How often does the pump need new oil?"}],
    "temperature": 0,
}


@dataclass(frozen=True, slots=True)
class Other:
    """A server to be compared with ours: ``start`` is given the upstream's address; ``model`` is its name for "cloud"."""

    start: Callable[[str], Server]
    name: str
    model: str = "cloud"
    share: float = 1.0
    """How much of the requests it is asked; a slow server gets fewer, so that a round stays short for all."""


def measure(names: tuple[str, ...]) -> Iterable[Figure]:  # noqa: ARG001 - all come from the same requests
    """Against a server written by hand."""
    yield from compare(Other(lambda url: Server(peer("proxy", url)), PEER), "", ROUNDS)


def compare(other: Other, suffix: str, rounds: int) -> Iterator[Figure]:
    """The same requests to the upstream itself, to our artifact and to ``other``, in turn."""
    with ExitStack() as stack:
        upstream = stack.enter_context(Server(peer("upstream")))
        servers = {
            "direct": (upstream, "cloud"),
            "ours": (stack.enter_context(Server(artifact(builds.proxy(upstream.url)))), "cloud"),
            "peer": (stack.enter_context(other.start(upstream.url)), other.model),
        }
        for server, model in servers.values():
            _round(server, model, other.share, -1)
        contestants = {name: partial(_round, server, model, other.share) for name, (server, model) in servers.items()}
        readings = interleave(contestants, rounds)
    middle = {name: medians(each) for name, each in readings.items()}
    direct = middle["direct"]
    said = f"loopback, upstream alone p50 {direct['p50']:.2f} ms and {direct['rps']:.0f} requests/s, median of {rounds}"
    yield Figure(
        f"proxy_overhead_p50{suffix}", middle["ours"]["p50"] - direct["p50"], "ms", "lower",
        middle["peer"]["p50"] - direct["p50"], other.name, Budget(1.0),
        f"p50 of {other.share * ALONE:.0f} chat requests one after another, less that of the upstream; {said}",
    )  # fmt: skip
    yield Figure(
        f"proxy_rps_8{suffix}", middle["ours"]["rps"], "requests/s", "higher", middle["peer"]["rps"], other.name,
        Budget(1500.0),
        f"{other.share * TOGETHER:.0f} chat requests over {CONNECTIONS} connections, client and upstream on the same machine, "
        f"ours {spread(readings['ours'], 'rps')}; {said}",
    )  # fmt: skip
    yield Figure(
        f"proxy_cpu{suffix}", middle["ours"]["cpu"], "CPU-ms", "lower", middle["peer"]["cpu"], other.name, None,
        f"CPU time of the server's process for one chat request over {CONNECTIONS} connections; {said}",
    )  # fmt: skip


def _round(server: Server, model: str, share: float, _number: int) -> Reading:
    request = encode("localhost", "/v1/chat/completions", {**_BODY, "model": model})
    alone = drive(server.host, server.port, request, connections=1, requests=round(share * ALONE))
    before = server.cpu_s()
    together = drive(server.host, server.port, request, connections=CONNECTIONS, requests=round(share * TOGETHER))
    spent = server.cpu_s() - before
    return {"p50": alone.p50_ms, "rps": together.per_second, "cpu": 1000 * spent / len(together.seconds)}
