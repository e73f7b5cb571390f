"""All vector stores of a server, compiled in and created by clients: found, opened, expired; the uploads meant for them.

It answers no request, and loads what uploads need only when there is one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Silence, Watch
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.services import NO_STATE

if TYPE_CHECKING:
    from lsbuild_runtime.mutable import MutableVectorIO, StoreRecord, VectorStores
    from lsbuild_runtime.ports import Embeddings, VectorIO
    from lsbuild_runtime.services import Services
    from lsbuild_runtime.uploads.attached import Attached
    from lsbuild_runtime.uploads.kept import Uploads
    from lsbuild_runtime.uploads.worker import Worker

DAY = 86_400
TOUCH_SECONDS = 600
"""A store's last activity is written down at most this often: searches shall not wear out a flash disk."""
_FOLDER = "uploads"


class Store(Struct, frozen=True):
    """A vector store. ``record`` is None for one that is part of the artifact."""

    id: str
    service: Service
    record: StoreRecord | None = None

    @property
    def mutable(self) -> bool:
        """Whether documents can be added and removed."""
        return self.record is not None or self.service.metadata.get("mutable") is True


class Stores:
    """Safe for use from several threads."""

    def __init__(
        self,
        services: Services,
        root: Path,
        observe: Callable[[str], Watch] = lambda _: Silence(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.root = root
        self.clock = clock
        self._services = services
        self._observe = observe
        self._lock = threading.Lock()
        self._uploads: Uploads | None = None
        self._worker: Worker | None = None

    # Finding and opening

    def find(self, store_id: str) -> Store:
        """The store of that id; ApiError 404 when there is none."""
        service = self._services.find(("vector_io",), store_id)
        if service is not None:
            return Store(store_id, service)
        found = next((store for store in self.created() if store.id == store_id), None)
        if found is None:
            shown = f"{store_id[:100]!r}; GET /v1/vector_stores lists them"
            raise ApiError(404, f"no vector store {shown}", code="vector_store_not_found")
        return found

    def listing(self) -> list[Store]:
        """Those of the artifact by name, then those created by clients, oldest first."""
        compiled = sorted((one for one in self._services if one.api == "vector_io"), key=lambda one: one.name)
        return [*(Store(service.name, service) for service in compiled), *self.created()]

    def created(self) -> Iterator[Store]:
        """What clients created and has not expired; a store past its time is deleted here."""
        for service in self.homes():
            yield from self._alive(service)

    def homes(self) -> list[Service]:
        """The services with which clients can create stores; the first is the default."""
        return [service for service in self._services if service.api == "vector_stores"]

    def port(self, store: Store) -> VectorIO:
        """The opened store."""
        if store.record is None:
            opened: VectorIO = self._services.get("vector_io", store.service.name)
            return opened
        return self._created(store)

    def writable(self, store: Store) -> MutableVectorIO:
        """The opened store, to be changed; ApiError 400 when it was compiled read-only."""
        if store.record is not None:
            return self._created(store)
        if not store.mutable:
            where = f"vector_stores.{store.id}"
            message = f"store {store.id!r} is read-only; say `mutable: true` at {where} in the spec and build again"
            raise ApiError(400, message, param="vector_store_id", code="vector_store_read_only")
        opened: MutableVectorIO = self._services.get("vector_io", store.service.name)
        return opened

    def model(self, store: Store) -> Embeddings:
        """The embedding model of the store."""
        found: Embeddings = self._services.get("embeddings", self.port(store).info().embedding)
        return found

    # Creating, changing, dropping

    def create(self, service: Service, record: StoreRecord) -> Store:
        """Make an empty store with ``service``."""
        home: VectorStores = self._services.get(service.api, service.name)
        home.create(record)
        if record.expires_days is not None:
            with contextlib.suppress(ApiError):  # without a worker it expires when somebody looks
                self.wake()
        return Store(record.id, service, record)

    def update(self, store: Store, change: Callable[[StoreRecord], StoreRecord]) -> Store:
        """Change the record of a created store; ApiError 404 when it is gone."""
        with self._lock:  # two changes shall not undo each other
            home: VectorStores = self._services.get(store.service.api, store.service.name)
            current = next((record for record in home.records() if record.id == store.id), None)
            if current is None or not home.update(changed := change(current)):
                raise ApiError(404, f"vector store {store.id!r} is gone", code="vector_store_not_found")
        return Store(store.id, store.service, changed)

    def touch(self, store: Store) -> None:
        """Note that the store was used just now; a search that was answered does not fail because this cannot be kept."""
        now = int(self.clock())
        if store.record is not None and now - store.record.last_active_at >= TOUCH_SECONDS:
            with contextlib.suppress(ApiError):
                self.update(store, lambda record: replace(record, last_active_at=now))

    def drop(self, store: Store) -> None:
        """Delete a created store with all it holds."""
        home: VectorStores = self._services.get(store.service.api, store.service.name)
        home.drop(store.id)
        uploads = self.uploads_if_any()
        if uploads is not None:
            uploads.attached.forget_store(store.id)

    # Uploads

    @property
    def uploads(self) -> Uploads:
        """What clients uploaded; ApiError 503 when this server keeps no state."""
        if self._uploads is None:
            from lsbuild_runtime.uploads.kept import Uploads

            folder = self._services.state(_FOLDER)
            with self._lock:
                self._uploads = self._uploads or Uploads(folder, self.clock)
        return self._uploads

    def uploads_if_any(self) -> Uploads | None:
        """What clients uploaded, or None when nothing ever was: looking must not make a database."""
        from lsbuild_runtime.uploads import FILE_NAME

        return self.uploads if self._services.keeps(f"{_FOLDER}/{FILE_NAME}") else None

    def remove(self, store_id: str, file_id: str) -> None:
        """Take a document out of a store that may be gone itself."""
        try:
            store = self.find(store_id)
        except ApiError as error:
            if error.status != 404:
                raise
            return
        self.writable(store).remove(file_id)

    def release(self, given_up: Iterable[Attached]) -> None:
        """Take deleted files out of their stores: at once where no one is at them, else the worker does it."""
        for attached in given_up:
            try:
                self.remove(attached.store, attached.file_id)
            except ApiError:
                continue  # it stays on the worker's list
            if not attached.todo:
                self.uploads.attached.settle(attached)
        self.wake()

    def expire(self) -> None:
        """Delete the files and the stores whose time is over."""
        for service in self.homes():
            with contextlib.suppress(ApiError):  # one that cannot be reached now has its turn later
                for _ in self._alive(service):
                    pass
        uploads = self.uploads_if_any()
        for file_id in uploads.files.expired() if uploads else ():
            self.release(self.uploads.attached.forget_file(file_id) or ())

    # The worker

    def start(self) -> None:
        """Go on with what an earlier process left; costs one look for a file when there is nothing."""
        if self.uploads_if_any() is not None:
            self.wake()

    def wake(self) -> None:
        """Something was queued."""
        uploads = self.uploads
        with self._lock:
            if self._worker is None:
                from lsbuild_runtime.uploads.worker import Worker

                self._worker = Worker(self, uploads, self._observe)
        self._worker.wake()

    def close(self) -> None:
        """Stop the worker; what it has not finished stays queued."""
        if self._worker is not None:
            self._worker.stop()
        if self._uploads is not None:
            self._uploads.close()

    def _created(self, store: Store) -> MutableVectorIO:
        home: VectorStores = self._services.get(store.service.api, store.service.name)
        opened = home.open(store.id)
        if opened is None:
            raise ApiError(404, f"vector store {store.id!r} is gone", code="vector_store_not_found")
        return opened

    def _alive(self, service: Service) -> Iterator[Store]:
        now = self.clock()  # before the records are read: what is noted later is not judged by a later clock
        for record in self._records(service):
            if not _over(record, now) or not self._drop_expired(service, record.id, now):
                yield Store(record.id, service, record)

    def _drop_expired(self, service: Service, store_id: str, now: float) -> bool:
        """Delete a store whose time is over, unless a search used it since its record was read."""
        with self._lock:
            current = next((record for record in self._records(service) if record.id == store_id), None)
            if current is not None and not _over(current, now):
                return False
            if current is not None:
                self.drop(Store(store_id, service, current))
            return True

    def _records(self, service: Service) -> Sequence[StoreRecord]:
        """What was created with a service: nothing when it needs state and this server keeps none."""
        try:
            home: VectorStores = self._services.get(service.api, service.name)
            return home.records()
        except ApiError as error:
            if error.code == NO_STATE:
                return ()
            raise


def _over(record: StoreRecord, now: float) -> bool:
    until = expires_at(record)
    return until is not None and until <= now


def expires_at(record: StoreRecord) -> int | None:
    """When the store expires if it is not used until then, in seconds since 1970."""
    return None if record.expires_days is None else record.last_active_at + record.expires_days * DAY
