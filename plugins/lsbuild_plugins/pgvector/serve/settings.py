"""How the serve half reaches a database, as the manifest carries it with secrets filled in; it connects nowhere."""

from __future__ import annotations

from typing import Literal

import msgspec

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Fusion, SearchMode
from lsbuild_runtime.postgres.address import Address


class Settings(Address, frozen=True, kw_only=True):
    """The service's ``config``; times in seconds, ``ef_search`` 0: measured. Holds a password: it is never shown."""

    schema: str
    index: Literal["hnsw", "none"]
    language: str
    search: SearchMode = "hybrid"
    fusion: Fusion = Fusion()
    min_recall: float = 0.95
    ef_search: int = 0

    def __repr__(self) -> str:
        return f"Settings(schema={self.schema!r})"


def read(service: Service) -> Settings:
    """The settings of ``service``."""
    return msgspec.convert(service.config, Settings, strict=False)
