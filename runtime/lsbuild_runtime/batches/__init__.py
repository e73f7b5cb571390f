"""Many requests in one file, answered in the background: durable, one after the other, behind those of clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

FOLDER = "batches"
FILE_NAME = "batches.sqlite"


def resume(site: Site) -> None:
    """Go on with what an earlier process left; costs one look for a file when there is nothing."""
    if site.services.keeps(f"{FOLDER}/{FILE_NAME}"):
        from lsbuild_runtime.batches.batches import Batches

        site.kept(Batches).wake()
