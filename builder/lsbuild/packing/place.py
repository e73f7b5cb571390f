"""Stands a finished artifact at its path in one move; nobody ever sees half of one. It knows no target."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lsbuild.errors import StoreError, TargetError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def new_folder(out: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give an empty folder beside ``out`` and, when the block ends well, put it in ``out``'s place.

    What stands at ``out`` is replaced only if ``is_ours`` knows it as an artifact. A killed build leaves
    ``.NAME.partial``, which the next one clears away. Raises TargetError, or StoreError when the disk refuses.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a symbolic link at ``out`` itself
    _refuse_foreign(out, is_ours)
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _refused(error, out) from error
    with _locked(lock, out):
        try:
            _clear(partial)
            yield partial
            _refuse_foreign(out, is_ours)
            _move(partial, out)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise _refused(error, out) from error
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def set_aside(out: Path, is_ours: Callable[[Path], bool], faults: type[Exception]) -> Iterator[None]:
    """Let the block replace what stands at ``out``; when it raises one of ``faults``, the old artifact stands there again.

    Where none stood there, nothing does. The old one is kept meanwhile by links to its files, which take no room.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - as above
    before = out.with_name(f".{out.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    stood = out.is_dir() and not out.is_symlink() and is_ours(out)
    if stood:
        shutil.copytree(out, before, symlinks=True, copy_function=os.link)
    try:
        yield
    except faults:
        if stood:
            _move(before, out)
        else:
            shutil.rmtree(out, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(before, ignore_errors=True)


@contextmanager
def _locked(folder: int, out: Path) -> Iterator[None]:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TargetError("another build is writing this artifact", where=str(out), hint="wait for it to end") from None
    finally:
        os.close(folder)


def _refused(error: OSError, out: Path) -> StoreError:
    return StoreError(f"cannot write the artifact: {error.strerror or error}", where=str(error.filename or out))


def _refuse_foreign(out: Path, is_ours: Callable[[Path], bool]) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise TargetError("there is a file where the artifact would go", where=str(out), hint="choose another --output")
    if out.exists() and any(out.iterdir()) and not is_ours(out):
        raise TargetError(
            "this folder is not an artifact of lsbuild, so it is not replaced",
            where=str(out),
            hint="choose another --output, or remove the folder yourself",
        )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(new: Path, out: Path) -> None:
    if not out.exists():
        new.rename(out)
        return
    if not _exchange(new, out):
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        new.rename(out)
        old.rename(new)
    shutil.rmtree(new)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one system call; False where the C library or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    result: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return result == 0
