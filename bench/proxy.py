"""Group ``proxy_*``: what a server between client and cloud costs; ours, a hand-written one, and none at all."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial

from bench import builds
from bench.environment import peer
from bench.figure import Budget, Figure
from bench.load import drive, encode
from bench.rounds import Reading, interleave, medians, spread
from bench.server import Server, artifact

ROUNDS = 5
ALONE, TOGETHER, CONNECTIONS = 300, 1200, 8
PEER = "FastAPI and the openai SDK under uvicorn[standard]"
NAMES = ("proxy_overhead_p50", "proxy_rps_8", "proxy_cpu")
_BODY = {
    "model": "cloud",
    "messages": [{"role": "user", "content": "How often does the pump need new oil?"}],
    "temperature": 0,
}


def measure(names: tuple[str, ...]) -> Iterable[Figure]:  # noqa: ARG001 - all come from the same requests
    """The same requests to the upstream itself, to our artifact and to the peer, in turn."""
    with ExitStack() as stack:
        upstream = stack.enter_context(Server(peer("upstream")))
        servers = {
            "direct": upstream,
            "ours": stack.enter_context(Server(artifact(builds.proxy(upstream.url)))),
            "peer": stack.enter_context(Server(peer("proxy", upstream.url))),
        }
        for server in servers.values():
            _round(server, -1)
        readings = interleave({name: partial(_round, server) for name, server in servers.items()}, ROUNDS)
    middle = {name: medians(each) for name, each in readings.items()}
    direct = middle["direct"]
    said = f"loopback, upstream alone p50 {direct['p50']:.2f} ms and {direct['rps']:.0f} requests/s, median of {ROUNDS}"
    yield Figure(
        "proxy_overhead_p50", middle["ours"]["p50"] - direct["p50"], "ms", "lower",
        middle["peer"]["p50"] - direct["p50"], PEER, Budget(1.0),
        f"p50 of {ALONE} chat requests one after another, less that of the upstream; {said}",
    )  # fmt: skip
    yield Figure(
        "proxy_rps_8", middle["ours"]["rps"], "requests/s", "higher", middle["peer"]["rps"], PEER, Budget(1500.0),
        f"{TOGETHER} chat requests over {CONNECTIONS} connections, client and upstream on the same machine, "
        f"ours {spread(readings['ours'], 'rps')}; {said}",
    )  # fmt: skip
    yield Figure(
        "proxy_cpu", middle["ours"]["cpu"], "CPU-ms", "lower", middle["peer"]["cpu"], PEER, None,
        f"CPU time of the server's process for one chat request over {CONNECTIONS} connections; {said}",
    )  # fmt: skip


def _round(server: Server, _number: int) -> Reading:
    request = encode("localhost", "/v1/chat/completions", _BODY)
    alone = drive(server.host, server.port, request, connections=1, requests=ALONE)
    before = server.cpu_s()
    together = drive(server.host, server.port, request, connections=CONNECTIONS, requests=TOGETHER)
    spent = server.cpu_s() - before
    return {"p50": alone.p50_ms, "rps": together.per_second, "cpu": 1000 * spent / len(together.seconds)}
