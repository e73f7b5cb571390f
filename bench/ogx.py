"""Group ``*_vs_ogx``: start and forwarding against OGX (Llama Stack's successor) with nothing but remote inference."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from bench import builds
from bench.environment import CACHE, ogx
from bench.figure import Figure
from bench.proxy import NAMES as PROXY
from bench.proxy import Other, compare
from bench.rounds import interleave, medians
from bench.server import Server, artifact
from bench.starting import BUDGETS, HEALTH, UNITS, start

SUFFIX = "_vs_ogx"
ROUNDS = 3
PEER = "OGX 1.5.0 with remote::openai only, no request log"
_START = {quantity: f"cold_start_health{SUFFIX}{'' if quantity == 'wall' else '_' + quantity}" for quantity in UNITS}
NAMES = (*_START.values(), *(name + SUFFIX for name in PROXY))
_CONFIG = """\
version: 2
distro_name: bench
apis: [inference]
providers:
  inference:
  - provider_id: openai
    provider_type: remote::openai
    config: {{api_key: none, base_url: "{url}/v1", allowed_models: [cloud]}}
storage:
  backends:
    kv_default: {{type: kv_sqlite, db_path: "{data}/kvstore.db"}}
    sql_default: {{type: sql_sqlite, db_path: "{data}/sql_store.db"}}
  stores:
    metadata: {{namespace: registry, backend: kv_default}}
    inference: {{table_name: inference_store, backend: sql_default, enabled: false}}
    conversations: {{table_name: openai_conversations, backend: sql_default}}
    prompts: {{table_name: prompts, backend: sql_default}}
    connectors: {{table_name: connectors, backend: sql_default}}
registered_resources:
  models:
  - {{model_id: cloud, provider_id: openai, provider_model_id: cloud, model_type: llm, metadata: {{}}}}
server: {{port: {port}, host: 127.0.0.1}}
"""


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """Both forward to the same upstream; OGX keeps its registry in SQLite, its least configuration."""
    if any(name in names for name in _START.values()):
        yield from _starts()
    if any(name.startswith("proxy") for name in names):
        yield from compare(Other(serve, PEER, "openai/cloud", 0.2), SUFFIX, ROUNDS)


def serve(url: str) -> Server:
    """Start OGX in front of ``url``, with an empty registry."""
    folder = CACHE / "ogx"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "config.yaml"
    config.write_text(_CONFIG.format(url=url, data=folder / "data", port=port))
    command: list[str | Path] = [ogx(), "run", config, "--port", str(port), "--insecure"]
    return Server(command, env={"HOME": str(folder), "COLUMNS": "200"}, says="Uvicorn running on ")


def _starts() -> Iterator[Figure]:
    # Nobody listens there: a start must not need its upstream.
    nowhere = "http://127.0.0.1:9"
    contestants = {
        "ours": partial(start, partial(Server, artifact(builds.proxy(nowhere))), HEALTH),
        "peer": partial(start, partial(serve, nowhere), HEALTH),
    }
    for once in contestants.values():
        once(-1)
    middle = {name: medians(each) for name, each in interleave(contestants, ROUNDS).items()}
    for quantity, unit in UNITS.items():
        yield Figure(
            name=_START[quantity],
            ours=middle["ours"][quantity],
            peer=middle["peer"][quantity],
            unit=unit,
            better="lower",
            peer_name=PEER,
            budget=BUDGETS.get(("health", quantity)),
            conditions=f"process start to the first /v1/health, main process only, median of {ROUNDS} interleaved starts",
        )
