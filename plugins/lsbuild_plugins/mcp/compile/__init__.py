"""Asks an MCP server for the definitions of its tools, once, so that they can be locked; and ships what was locked."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsbuild.api import Json, SourceError, StepContext
from lsbuild_plugins.mcp.serve import connector, definitions
from lsbuild_plugins.mcp.serve.messages import Failure, Gone
from lsbuild_plugins.mcp.serve.session import Session
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.services import missing_secrets, resolve
from lsbuild_runtime.tools.arguments import schema_fault

_SECONDS = 120.0


def ask(text: str, folder: Path) -> bytes:
    """The server's definitions as ``definitions.json``; ``text`` is its part of the spec as JSON, ``folder`` the spec's.

    SourceError when the server cannot be asked, or when a definition of it is none.
    """
    config: dict[str, Any] = json.loads(text)
    if missing := missing_secrets(config):
        raise SourceError("; ".join(missing), where=_named(config), hint="The server is asked for its tools at build.")
    config = resolve(config)
    context = Context(deadline=time.monotonic() + _SECONDS)
    try:
        transport = connector(config, folder)()
        try:
            found = Session(transport, context, config.get("timeout", 30.0)).tools(context)
        finally:
            transport.close()
    except (Gone, Failure, ApiError) as error:
        hint = "Start it, or build with an lsbuild.lock and a cache that know its tools; pin: false takes them as they come."
        raise SourceError(f"its tools cannot be listed: {error}", where=_named(config), hint=hint) from error
    for each in found:
        if fault := schema_fault(each.input_schema or {"type": "object"}):
            raise SourceError(
                f"the parameters of its tool {each.name[:80]!r} are no JSON Schema: {fault}", where=_named(config)
            )
    if name := definitions.twice(found):
        raise SourceError(f"two of its tools would be called {name!r}", where=_named(config))
    return definitions.written(found)


def ship(context: StepContext) -> Mapping[str, Json]:
    """The step: the locked definitions, as they are."""
    (file,) = context.sources["definitions"].files
    shutil.copyfile(file.location, context.out / definitions.FILE_NAME)
    return {"tools": ", ".join(each.called for each in definitions.read(file.location.read_bytes()))}


def _named(config: Mapping[str, Any]) -> str:
    return f"mcp server {' '.join(config['command']) if config.get('command') else config.get('url')}"
