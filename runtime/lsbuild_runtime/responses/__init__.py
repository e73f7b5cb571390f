"""The Responses API behind its routes: items, runs and what is kept of them; the loop itself is ``lsbuild_runtime.agent``.

    request --preparing--> Work --task--> Task --run--> events --writer--> items and stream events
                             |                                  |
                             +------------ records -------------+   begun, after each step, ended

No module of this package is imported before the first request that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsbuild_runtime.services import Services

API, NAME = "state", "responses"
"""The service that keeps them: ``state/responses``."""

FOLDER = "responses"
FILE_NAME = "responses.sqlite"
"""Where SQLite keeps them below the state folder."""


def may_have_left(services: Services) -> bool:
    """Whether an earlier process may have left responses to go on with: one look for a file, and none over a network."""
    service = services.find((API,), NAME)
    if service is None:
        return False
    path = services.state_path
    return not service.provider.startswith("inline::") or (path is not None and (path / FOLDER / FILE_NAME).exists())
