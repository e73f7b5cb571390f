"""The serve half of `remote::postgres`; opening the service reaches no network, the first question does."""

from __future__ import annotations

import time
from pathlib import Path

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.responses.records import Records


def open_records(service: Service, root: Path, host: Host) -> Records:  # noqa: ARG001 - the entry's shape
    """Responses and conversations in the database of the service's ``config``."""
    from lsbuild_plugins.postgres.serve.store import PostgresStore, read
    from lsbuild_runtime.responses.sql import SqlRecords

    settings = read(service)
    return SqlRecords(PostgresStore(settings), settings.limits(), time.time)
