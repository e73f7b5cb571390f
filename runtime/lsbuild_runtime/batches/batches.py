"""All batches of a server, and the worker that answers them: opened by the first request for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsbuild_runtime.batches import FOLDER
from lsbuild_runtime.batches.records import Records
from lsbuild_runtime.batches.worker import Worker

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")


class Batches:
    """ApiError 503 when this server keeps no state."""

    def __init__(self, site: Site) -> None:
        served = {route.path for route in site.table.routes if route.method == "POST"}
        self.endpoints = tuple(path for path in ENDPOINTS if path in served)
        self.records = Records(site.services.state(FOLDER), site.stores.clock)
        self._worker = Worker(site, self.records)
        self.wake()

    def wake(self) -> None:
        """Something was queued or cancelled."""
        self._worker.wake()

    def close(self) -> None:
        """Stop the worker; what it has not answered stays queued."""
        self._worker.stop()
        self.records.close()
