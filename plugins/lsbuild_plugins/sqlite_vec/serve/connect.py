"""Connections to an index: read-only, immutable, memory-mapped, with sqlite-vec loaded by path; knows no query."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import apsw
import msgspec

from lsbuild_plugins.sqlite_vec.serve.format import APPLICATION_ID, SCHEMA, Meta
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import ManifestError

_BUILD_AGAIN = "build the artifact again"

MAPPED = 16 << 20
"""Bytes of a clustered index that are mapped into memory. What is mapped and was once read counts as the process's memory
for as long as nobody else needs it (a million vectors: 204 MB after 500 queries); the rest is read into the page cache
of the connection, for a tenth more time. An exact index is mapped whole, since every search reads all of it."""

CACHE_KIB = 4096
"""Pages that a connection keeps: the centroids of a million vectors and what one search reads."""


def load_vec0(connection: apsw.Connection) -> None:
    """Load sqlite-vec's library. Its Python package is located, never imported: it would pull in numpy."""
    spec = find_spec("sqlite_vec")
    if spec is None or spec.origin is None:
        raise ManifestError(f"the sqlite-vec wheel is missing from this artifact; {_BUILD_AGAIN}")
    connection.enable_load_extension(True)
    try:
        connection.load_extension(str(Path(spec.origin).with_name("vec0")))
    except apsw.ExtensionLoadingError as error:
        raise ManifestError(f"sqlite-vec cannot be loaded on this machine ({error})") from error
    finally:
        connection.enable_load_extension(False)


def read_meta(path: Path) -> Meta:
    """Check that ``path`` is a whole index of this schema, and read what it says about itself."""
    _check_header(path)
    try:
        connection = connect(path)
        try:
            value = connection.execute("SELECT value FROM meta").get
        finally:
            connection.close()
        return msgspec.json.decode(value, type=Meta)
    except (apsw.Error, TypeError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ManifestError(f"{path}: the index is damaged ({error}); {_BUILD_AGAIN}") from error


class Connection(apsw.Connection):
    """A connection to a file that never changes. ``masked`` and ``hidden`` are `layers`'s: what it hides at present."""

    masked = 0
    hidden = (0, 0, 0)


def connect(path: Path) -> Connection:
    """A connection that takes no locks and looks for no journal: the file is never written while it is served."""
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX
    connection = Connection(f"file:{quoted}?immutable=1", flags=flags)
    load_vec0(connection)
    # No cell_size_check: SQLite repeats it whenever it looks at a mapped page, and bm25 looks at one for each match.
    connection.execute(f"PRAGMA query_only=1; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-{CACHE_KIB}")
    lists = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'lists'").get
    mapped = MAPPED if lists else path.stat().st_size
    connection.execute(f"PRAGMA mmap_size={mapped}")  # alone: it answers, and apsw does not run what follows an answer
    return connection


class Pool:
    """Connections that are used by one thread at a time; there are never more than threads searching at once."""

    def __init__(self, path: Path, opened: Callable[[Path], Connection] = connect) -> None:
        self.path = path
        self._opened = opened
        self._idle: deque[Connection] = deque()
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow one, with the errors of `reading`."""
        with self.borrowed() as connection, self.reading():
            yield connection

    @contextmanager
    def borrowed(self) -> Iterator[Connection]:
        """Borrow one."""
        try:
            connection = self._idle.pop()
        except IndexError:
            with self.reading():
                connection = self._opened(self.path)
        try:
            yield connection
        finally:
            self._idle.append(connection)
            if self._closed:
                self.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Every error of SQLite becomes an ApiError 503: our statements are fixed and what a user sends is always a
        parameter, so only the file can be wrong.
        """
        try:
            yield
        except (apsw.Error, UnicodeDecodeError) as error:
            message = f"the vector index cannot be read, its file is damaged ({error}); {_BUILD_AGAIN}"
            raise ApiError(503, message, type="server_error", code="index_damaged") from error

    def close(self) -> None:
        """Close what is not in use now; the rest follows when it comes back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close(True)


def _check_header(path: Path) -> None:
    """Compare SQLite's 100-byte header with the file: a mapped file that is too short would kill the process."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
        size = path.stat().st_size
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; {_BUILD_AGAIN}") from error
    if len(header) < 100 or header[:16] != b"SQLite format 3\0":
        raise ManifestError(f"{path}: not an index ({size} bytes); {_BUILD_AGAIN}")
    page, pages, schema, application = (
        *struct.unpack_from(">H", header, 16),
        *struct.unpack_from(">28xI28xI4xI", header),
    )
    expected = (page if page != 1 else 65536) * pages
    if size != expected:
        raise ManifestError(f"{path}: {size} bytes, its header says {expected}; the file is damaged, {_BUILD_AGAIN}")
    if (application, schema) != (APPLICATION_ID, SCHEMA):
        raise ManifestError(f"{path}: index schema {schema}, this runtime reads {SCHEMA}; {_BUILD_AGAIN}")
