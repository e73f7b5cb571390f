"""Precompiled bytecode for packed Python code: a cold start then reads .pyc files and compiles nothing."""

from __future__ import annotations

import platform
import py_compile
import sys
from pathlib import Path


def matches(python: str) -> bool:
    """Whether the running interpreter writes bytecode that Python ``python`` ("3.11") reads."""
    return python == f"{sys.version_info.major}.{sys.version_info.minor}"


def compiler(python: str) -> str:
    """What compiles bytecode for Python ``python`` here, for the keys of steps that do; "" when this one cannot.

    That is the whole version: patch releases compile some functions to other bytes, though all of a line read them.
    """
    return platform.python_version() if matches(python) else ""


def compile_tree(root: Path) -> int:
    """Compile every .py file below ``root`` beside itself and return how many were compiled.

    The files are unchecked-hash: the interpreter does not look at the source's time, so they stay valid after copying
    and on a read-only file system. File names inside are relative to ``root``, which keeps them free of build paths.
    A file that is not valid for this Python (wheels carry such files in tests and templates) is left as source.
    """
    count = 0
    for path in sorted(root.rglob("*.py")):
        try:
            py_compile.compile(
                str(path),
                dfile=path.relative_to(root).as_posix(),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except (py_compile.PyCompileError, UnicodeDecodeError, ValueError):
            continue
        count += 1
    return count
