"""The Responses API behind its routes: items, runs and what is kept of them; the loop itself is ``agents.agent``.

    request --preparing--> Work --task--> Task --run--> events --writer--> items and stream events
                             |                                  |
                             +------------ records -------------+   begun, after each step, ended

No module of this package is imported before the first request that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

API, NAME = "state", "responses"
"""The service that keeps them: ``state/responses``."""

FOLDER = "responses"
FILE_NAME = "responses.sqlite"
"""Where SQLite keeps them below the state folder."""


def resume(site: Site) -> None:
    """Go on with what an earlier process may have left: one look for a file when there is nothing, none over a network."""
    service = site.services.find((API,), NAME)
    if service is None:
        return
    if not service.provider.startswith("inline::") or site.services.keeps(f"{FOLDER}/{FILE_NAME}"):
        from lsbuild_runtime.responses.keeping import Responses

        site.kept(Responses).start()
