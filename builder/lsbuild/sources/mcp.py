"""``mcp:NAME{server}``: the definitions of a server's tools, asked for once and then as the lock says.

What the server offers later is compared with them where the artifact runs.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import cast

from lsbuild.api import Source
from lsbuild.errors import SourceError
from lsbuild.registry import attribute
from lsbuild.sources.base import FetchContext

FILE_NAME = "definitions.json"
_ASK = "lsbuild_plugins.mcp.compile:ask"


def fetch(rest: str, context: FetchContext) -> Source:
    """One JSON file. SourceError when the server cannot be asked, or says something else than the lock."""
    locked = context.pinned[0] if context.pinned else None
    blob = context.blob(locked.sha256) if locked else None
    if blob is None:
        if context.offline:
            raise context.missing("the definitions of its tools are")
        context.progress(0, 0, "asking for its tools")
        name, brace, server = rest.partition("{")
        ask = cast("Callable[[str, Path], bytes]", attribute(_ASK))
        try:
            blob = context.add(io.BytesIO(ask(brace + server, context.root)), locked.sha256 if locked else None)
        except SourceError as error:
            if locked is None or "sha256" not in error.what:
                raise
            what = "its tools are not those that lsbuild.lock has the hash of"
            hint = "Look at what it offers now; delete its entry in lsbuild.lock to accept that."
            raise SourceError(what, where=f"tools.{name}", hint=hint) from error
    return Source(context.uri, context.tree({FILE_NAME: blob.name}))
