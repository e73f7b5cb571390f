"""``run --compact``: folds what was added to every mutable store of a bundle into its index, and ends; it serves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Manifest
from lsbuild_runtime.services import Services

if TYPE_CHECKING:
    from lsbuild_runtime.mutable import MutableVectorIO, VectorStores

Write = Callable[[str], object]


def compact(manifest: Manifest, root: Path, state: Path | None, say: Write, complain: Write) -> bool:
    """Compact all stores; a line for each. False when one of them could not be, after the others were.

    A server may run on the same state meanwhile; a store that it is compacting itself is left to it.
    """
    services = Services(manifest, root, state)
    found = done = 0
    for name, opened in _mutable(services):
        found += 1
        try:
            say(f"{name}: {opened().compact(Context(deadline=float('inf')))} passages folded\n")
            done += 1
        except ApiError as error:
            complain(f"lsbuild: {name}: {error.message}\n")
    if not found:
        say("this artifact has no mutable stores\n")
    return done == found


def _mutable(services: Services) -> Iterator[tuple[str, Callable[[], MutableVectorIO]]]:
    """Names of the mutable stores, with what opens them."""
    for service in services:
        if service.api == "vector_io" and service.metadata.get("mutable") is True:
            yield service.name, partial(services.get, "vector_io", service.name)
        elif service.api == "vector_stores":
            stores: VectorStores = services.get("vector_stores", service.name)
            for record in stores.records():
                yield record.id, partial(_there, stores, record.id)


def _there(stores: VectorStores, store_id: str) -> MutableVectorIO:
    store = stores.open(store_id)
    if store is None:
        raise ApiError(404, "it was dropped just now", code="vector_store_not_found")
    return store
