"""Compaction: the delta's documents become a new generation beside the old one, and one commit switches to it.

Until that commit the old files are what counts, after it the new ones: a crash at any point is before or after. What was
written meanwhile stays in the delta, above what was folded.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from lsbuild_plugins.sqlite_vec.serve import rows
from lsbuild_plugins.sqlite_vec.serve.delta import Change, Delta, Head, switch
from lsbuild_plugins.sqlite_vec.serve.generation import Built, build, sweep
from lsbuild_plugins.sqlite_vec.serve.layers import COMPILED, DELTA, GENERATION, Layer
from lsbuild_plugins.sqlite_vec.serve.rows import WRITTEN
from lsbuild_runtime.http import ApiError, Context

PASSAGES = 2000
SHARE = 0.1
"""A delta is folded when more than ``PASSAGES``, and than this share of the generation, were written to it: so every
passage is copied a bounded number of times, however large the store becomes."""

IDLE_SECONDS = 5.0


def due(written: int, below: int) -> bool:
    """Whether a delta to which so many passages were written should be folded into a generation of ``below``."""
    return written > max(PASSAGES, SHARE * below)


def fold(delta: Delta, layers: list[Layer], head: Head, context: Context) -> Built | None:
    """Write the next generation from one state of the store; None when there is nothing to fold."""
    by_number = {layer.number: layer for layer in layers}
    above, below = by_number[DELTA], by_number.get(GENERATION)
    masks = above.db.execute("SELECT 1 FROM masks WHERE layer = ? LIMIT 1", (GENERATION,)).get
    if not (above.meta.files or head.written or masks):
        return None
    return build(delta.folder, by_number.get(COMPILED), below, above, context)


def switch_over(delta: Delta, built: Built, seen: Head) -> None:
    """Let the store be what was built, and what changed since ``seen``."""
    with delta.change() as change:
        _mask_what_changed(change, built, seen)
        _keep_what_changed(change, built)
        switch(change, built.generation)
    sweep(delta.folder, built.generation)


def _mask_what_changed(change: Change, built: Built, seen: Head) -> None:
    """Masks that were folded go; a document that was folded and has changed since is hidden in the new generation."""
    change.db.execute("DELETE FROM masks WHERE layer = ? AND version <= ?", (GENERATION, seen.version))
    now = dict(change.db.execute("SELECT file_id, version FROM files"))
    for file_id, version in built.folded.items():
        if now.get(file_id) != version:
            change.mask(GENERATION, file_id, None)


def _keep_what_changed(change: Change, built: Built) -> None:
    """Empty the delta but for documents that are not, or not so, in the new generation."""
    db = change.db
    kept = []
    meta = rows.meta(change.head.embedding, change.head.dimensions, rows.counts(db))
    versions = dict(db.execute("SELECT id, version FROM files"))
    for row, document in rows.documents(db, WRITTEN, "1"):
        if built.folded.get(document.file_id) != versions[row]:
            kept.append((document, versions[row], *rows.content(db, WRITTEN, meta, row)))
    rows.empty(db, change.head.dimensions)
    for document, version, passages, vectors in kept:
        rows.append(db, rows.insert(db, document, version), passages, vectors)
        change.written += len(passages)


class Idle:
    """Does some work once, in a thread of its own, when nobody has used the store for a while."""

    def __init__(self, work: Callable[[], object], seconds: float = IDLE_SECONDS) -> None:
        self._work = work
        self._seconds = seconds
        self._used = -math.inf  # the clock may have begun just now
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def used(self) -> None:
        """Put the work off."""
        self._used = time.monotonic()

    def wanted(self) -> None:
        """There is work to do."""
        with self._lock:
            if self._timer is None:
                self._start(self._seconds)

    def cancel(self) -> None:
        """There is none any more."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _start(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            left = self._used + self._seconds - time.monotonic()
            if left > 0:
                self._start(left)
                return
            self._timer = None
        with suppress(ApiError):  # a disk that is full now: the next write asks again
            self._work()
