"""A store that can be changed as the MutableVectorIO port: a compiled index, or none, below what was written since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from lsbuild_plugins.sqlite_vec.serve import layers as joined
from lsbuild_plugins.sqlite_vec.serve import rows
from lsbuild_plugins.sqlite_vec.serve.compact import Idle, due, fold, switch_over
from lsbuild_plugins.sqlite_vec.serve.connect import Pool
from lsbuild_plugins.sqlite_vec.serve.delta import Change, Delta, Head
from lsbuild_plugins.sqlite_vec.serve.faults import damaged, faults
from lsbuild_plugins.sqlite_vec.serve.filters import condition
from lsbuild_plugins.sqlite_vec.serve.format import FILE_NAME
from lsbuild_plugins.sqlite_vec.serve.fuse import fuse
from lsbuild_plugins.sqlite_vec.serve.generation import Generations, Gone, Index, sweep
from lsbuild_plugins.sqlite_vec.serve.layers import COMPILED, DELTA, GENERATION, Layer
from lsbuild_plugins.sqlite_vec.serve.rows import WRITTEN, Counts
from lsbuild_plugins.sqlite_vec.serve.statefile import locked_now
from lsbuild_plugins.sqlite_vec.serve.store import CANDIDATES, checked_meta
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Attribute, Fusion, Hit, Host, Passage, SearchMode, StoreInfo
from lsbuild_runtime.search import check, check_fits, fusion_of, query_vector

_NOTHING = Counts(0, 0, 0)
_TRIES = 5


class Kind(NamedTuple):
    """What a store is beside its documents."""

    name: str
    mode: SearchMode
    fusion: Fusion
    embedding: str
    dimensions: int


class View(NamedTuple):
    """The store at one moment, layers from the lowest up; ``head`` None: nothing was ever written."""

    layers: list[Layer]
    head: Head | None


class Mutable:
    """Searches read one committed state of all layers on connections of their own, so writers never wait for them.

    ``place`` gives the folder of the delta. Where the server keeps no state (ApiError 503) nothing can have been written:
    searches then answer from the compiled index, and writes with that error.
    """

    def __init__(self, kind: Kind, base: Index | None, place: Callable[[], Path], host: Host) -> None:
        self._kind = kind
        self._base = base
        self._place = place
        self._delta: Delta | None = None
        self._generations = Generations(kind.embedding, kind.dimensions)
        self._host = host
        self._idle = Idle(lambda: self.compact(Context()))

    # Reading

    def info(self) -> StoreInfo:
        """Counts; ``bytes`` is the size of the documents."""
        with self._view() as view:
            held = [layer.visible for layer in view.layers] or [_NOTHING]
            files, chunks, size = map(sum, zip(*held, strict=True))
        return StoreInfo(files, chunks, size, self._kind.dimensions, self._kind.embedding)

    def search(
        self,
        query: str,
        context: Context,
        *,
        limit: int = 10,
        mode: SearchMode | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float = 0.0,
        fusion: Fusion | None = None,
    ) -> list[Hit]:
        """As in `Store.search`; of equal scores the document that lies lower, and in its layer earlier, comes first."""
        self._idle.used()
        query = query.encode("utf-8", "replace").decode()  # a lone surrogate from JSON has no UTF-8 form
        kind = self._kind
        mode = kind.mode if mode is None else mode
        check(query, limit, mode, threshold)
        where = condition(filters) if filters else None
        vector = None if mode == "keyword" else query_vector(self._host, kind.embedding, query, mode, context)
        if vector is not None:
            check_fits(vector, kind.dimensions, kind.name, kind.embedding)
        context.check()
        with context.watch.span("vector_store.search", store=self._kind.name, mode=mode), self._view() as view:
            depth = limit if mode != "hybrid" else max(limit, CANDIDATES)
            near = [] if vector is None else joined.near(view.layers, vector, limit, depth, where)
            worded = [] if mode == "vector" else joined.worded(view.layers, query, depth, where)
            ranked = fuse(near, worded, fusion or kind.fusion) if mode == "hybrid" else near or worded
            return joined.hits(view.layers, [(row, score) for row, score in ranked[:limit] if score >= threshold])

    def file(self, file_id: str) -> StoredFile | None:
        """See MutableVectorIO."""
        with self._view() as view:
            found = _find(view.layers, file_id)
            return found[2] if found else None

    def files(self) -> list[StoredFile]:
        """See MutableVectorIO."""
        with self._view() as view:
            found = [document for layer in view.layers for _, document in layer.documents()]
        return sorted(found, key=lambda document: (document.created_at, document.file_id))

    def passages(self, file_id: str) -> list[Passage]:
        """See MutableVectorIO."""
        with self._view() as view:
            found = _find(view.layers, file_id)
            if found is None:
                return []
            layer, row, _ = found
            with layer.blame():
                return [passage for _, passage in rows.passages(layer.db, row)]

    # Writing

    def put(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """See MutableVectorIO."""
        self._check(passages, vectors)
        with self._change() as (change, lower):
            row = change.row(document.file_id)
            if row is not None:
                rows.delete(change.db, row)
            _hide(change, lower, document.file_id)
            rows.append(change.db, rows.insert(change.db, document, change.version), passages, vectors)
            change.written += len(passages)

    def add(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """See MutableVectorIO. A document of a lower layer is copied up first; one that exists keeps its own record."""
        self._check(passages, vectors)
        with self._change() as (change, lower):
            row = change.row(document.file_id)
            if row is None:
                row = _copied_up(change, lower, document.file_id)
            if row is None:
                row = rows.insert(change.db, document, change.version)
            rows.delete_passages(change.db, row, [passage.chunk_id for passage in passages])
            rows.append(change.db, row, passages, vectors)
            change.db.execute("UPDATE files SET version = ? WHERE id = ?", (change.version, row))
            change.written += len(passages)

    def remove(self, file_id: str) -> bool:
        """See MutableVectorIO."""
        with self._change() as (change, lower):
            row = change.row(file_id)
            if row is not None:
                rows.delete(change.db, row)
            return _hide(change, lower, file_id) or row is not None

    def set_attributes(self, file_id: str, attributes: Mapping[str, Attribute]) -> bool:
        """See MutableVectorIO."""
        with self._change() as (change, lower):
            row = change.row(file_id)
            if row is not None:
                rows.attributes(change.db, row, attributes)
                change.db.execute("UPDATE files SET version = ? WHERE id = ?", (change.version, row))
                return True
            found = _find(lower, file_id)
            if found:
                change.mask(found[0].number, file_id, attributes)
            return found is not None

    def compact(self, context: Context) -> int:
        """See MutableVectorIO; 0 as well when another thread or process is at it."""
        delta = self._written()
        if delta is None:
            return 0
        with faults(delta.state.path), locked_now(delta.folder) as mine:
            if not mine:
                return 0
            with self._view() as view:
                if view.head is None:
                    return 0
                sweep(delta.folder, view.head.generation)
                built = fold(delta, view.layers, view.head, context)
            if built is None:
                return 0
            switch_over(delta, built, view.head)
            return built.passages

    def close(self) -> None:
        """Close every file that is not in use; the others follow."""
        self._idle.cancel()
        self._generations.close()
        if self._delta is not None:
            self._delta.state.close()

    # How

    def _check(self, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        if len(passages) != len(vectors):
            fault = f"{len(passages)} passages came with {len(vectors)} vectors"
            raise ApiError(400, f"{fault}; there must be one for each", param="vectors", code="invalid_vectors")
        for vector in vectors:
            if len(vector) != 4 * self._kind.dimensions:
                fault = f"a vector has {len(vector) // 4} dimensions, vector store {self._kind.name!r} (model "
                message = f"{fault}{self._kind.embedding!r}) holds {self._kind.dimensions}"
                raise ApiError(400, message, param="vectors", code="invalid_vectors")

    def _made(self) -> Delta:
        if self._delta is None:
            self._delta = Delta(self._place(), self._kind.embedding, self._kind.dimensions)
        return self._delta

    def _written(self) -> Delta | None:
        """The delta when there is one."""
        try:
            delta = self._made()
        except ApiError as error:
            if error.status != 503:
                raise
            return None
        return delta if delta.state.exists() else None

    @contextmanager
    def _view(self) -> Iterator[View]:
        delta = self._written()
        with ExitStack() as stack:
            yield self._seen(stack, delta) if delta else View(self._stacked(stack, None, None), None)

    def _seen(self, stack: ExitStack, delta: Delta) -> View:
        """A delta that was read just before another process switched names a generation that is gone: read again."""
        for _ in range(_TRIES):
            with ExitStack() as attempt:
                db, head = attempt.enter_context(delta.read())
                try:
                    view = View(self._stacked(attempt, db, head), head)
                except Gone:
                    continue
                stack.push(attempt.pop_all())
                return view
        raise _lost(delta)

    def _stacked(self, stack: ExitStack, db: apsw.Connection | None, head: Head | None) -> list[Layer]:
        found = []
        if self._base is not None:
            found.append(_masked(stack, COMPILED, self._base, db, head))
        if db is None or head is None:
            return found
        delta = self._made()
        if head.generation is not None:
            index = self._generations.opened(delta.folder, head.generation)
            found.append(_masked(stack, GENERATION, index, db, head))
        meta = rows.meta(head.embedding, head.dimensions, rows.counts(db))
        return [*found, Layer(DELTA, db, meta, WRITTEN, _NOTHING, partial(faults, delta.state.path))]

    @contextmanager
    def _change(self) -> Iterator[tuple[Change, list[Layer]]]:
        """A transaction, with the layers below the delta as it begins."""
        self._idle.used()
        delta = self._made()
        with ExitStack() as stack, delta.change() as change:
            try:
                *lower, _ = self._stacked(stack, change.db, change.head)
            except Gone as error:
                raise _lost(delta) from error
            yield change, lower
        below = sum(layer.meta.chunks for layer in lower if layer.number == GENERATION)
        if due(change.head.written + change.written, below):
            self._idle.wanted()


def open_mutable(service: Service, root: Path, place: Callable[[], Path], host: Host) -> Mutable:
    """The store whose base is the index below ``root / service.path``; errors as in `serve.open_store`."""
    path = root / service.path / FILE_NAME
    meta = checked_meta(path, service)
    pool = Pool(path)
    base = Index(meta, pool, rows.COMPILED, pool.reading)
    kind = Kind(
        service.name, service.config.get("search", "hybrid"), fusion_of(service), meta.embedding, meta.dimensions
    )
    return Mutable(kind, base, place, host)


def _lost(delta: Delta) -> ApiError:
    return damaged(delta.state.path, "the generation that it names is missing")


def _masked(stack: ExitStack, number: int, index: Index, delta: apsw.Connection | None, head: Head | None) -> Layer:
    db = stack.enter_context(index.pool.borrowed())
    hidden = _NOTHING
    if delta is not None and head is not None:
        with index.blame():
            hidden = joined.mask(db, delta, number, head.masked)
    return Layer(number, db, index.meta, index.layout, hidden, index.blame)


def _find(layers: Sequence[Layer], file_id: str) -> tuple[Layer, int, StoredFile] | None:
    """Where a document lies: in one layer at most."""
    for layer in reversed(layers):
        if found := layer.document(file_id):
            return layer, *found
    return None


def _hide(change: Change, lower: Sequence[Layer], file_id: str) -> bool:
    """Hide a document in the layer below that shows it; False when none does."""
    found = _find(lower, file_id)
    if found:
        change.mask(found[0].number, file_id, None)
    return found is not None


def _copied_up(change: Change, lower: Sequence[Layer], file_id: str) -> int | None:
    """Move a document from a lower layer to the delta; its row there, or None when no layer shows it."""
    found = _find(lower, file_id)
    if found is None:
        return None
    layer, row, document = found
    content = layer.content(row)
    there = rows.insert(change.db, document, change.version)
    rows.append(change.db, there, *content)
    change.mask(layer.number, file_id, None)
    change.written += document.passages
    return there
