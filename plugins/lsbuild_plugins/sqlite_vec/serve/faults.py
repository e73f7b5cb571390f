"""What SQLite and the disk say when a store's own files cannot be read or written -> ApiError; it repairs nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from lsbuild_runtime.http import ApiError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """507 when the disk of ``path`` is full, else 503: busy, not writable, damaged. What else goes wrong is our bug."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise busy(path) from error
    except apsw.FullError as error:
        raise full(path) from error
    except apsw.IOError as error:
        raise (full(path) if _no_room(path) else unusable(path, str(error))) from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError) as error:
        raise unusable(path, str(error)) from error
    except (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from error
    except (UnicodeEncodeError, OverflowError) as error:
        fault = f"a text that is no Unicode or a number beyond 64 bits cannot be stored ({error})"
        raise ApiError(400, fault, code="invalid_value") from error
    except OSError as error:
        raise (full(path) if error.errno in _FULL else unusable(path, error.strerror or str(error))) from error


def busy(path: Path) -> ApiError:
    """Another writer held the store for longer than we wait."""
    return _error(503, f"{path.parent.name}: another write takes long; try again", "store_busy", retry_after=1)


def full(path: Path) -> ApiError:
    """Nothing was changed, for want of room."""
    return _error(507, f"the disk of {path.parent} is full, nothing was changed; free some room", "disk_full")


def unusable(path: Path, why: str) -> ApiError:
    """Nothing was changed: the file system refuses."""
    return _error(503, f"{path} cannot be used, nothing was changed ({why}); see to the disk", "store_unavailable")


def damaged(path: Path, why: str) -> ApiError:
    """What is there is not what was written."""
    return _error(503, f"{path} is damaged ({why}); put back a copy of its folder", "store_damaged")


def mismatch(fault: str) -> ApiError:
    """Two parts of a store were made by different models."""
    return _error(
        503, f"{fault}; serve the artifact they were written with, or give it another --state", "store_mismatch"
    )


def _error(status: int, message: str, code: str, retry_after: int | None = None) -> ApiError:
    return ApiError(status, message, type="server_error", code=code, retry_after=retry_after)


def _no_room(path: Path) -> bool:
    """SQLite says EIO where the file that threads share (-shm) finds no room."""
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False
