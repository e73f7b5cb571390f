"""What a booted artifact says of where its models run, as checks: whether each is on the provider it should be on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from lsbuild.api import Check, Manifest
from lsbuild.packing.boot import HEALTH

Ask = Callable[[str], Iterable[Check]]


def also_placements(ask: Ask, manifest: Manifest) -> Ask:
    """``ask``, and after it where the models run that may run on something else than the CPU."""
    if not manifest.server.prepare:
        return ask

    def both(base_url: str) -> Iterator[Check]:
        yield from ask(base_url)
        yield from _placements(base_url)

    return both


def _placements(base_url: str) -> Iterator[Check]:
    for name, placement in sorted(_health(base_url).get("models", {}).items()):
        wanted, provider, why = placement["wanted"], placement["provider"], placement.get("why", "")
        where = (
            f"runs on {provider}, as it should" if not why else f"should run on {wanted} and runs on {provider}: {why}"
        )
        # Falling back is what an artifact that is not strict promises; that it would not, nothing here can show.
        yield Check(f"{name} runs", True, where)


def _health(base_url: str) -> dict[str, Any]:
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=30)
    try:
        connection.request("GET", HEALTH)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found
