"""Real sentences for the embedding figures: the first paragraphs of the standard library's docstrings."""

from __future__ import annotations

import ast
import re
import sysconfig
from pathlib import Path

COUNT = 200
_MODULES = ("argparse", "ast", "asyncio/tasks", "collections/__init__", "concurrent/futures/_base", "configparser",
            "contextlib", "csv", "datetime", "decimal", "difflib", "email/message", "enum", "fractions", "functools",
            "gzip", "heapq", "inspect", "ipaddress", "json/__init__", "logging/__init__", "mailbox", "os", "pathlib",
            "pickle", "random", "shutil", "socket", "statistics", "string", "subprocess", "tarfile", "tempfile",
            "textwrap", "threading", "typing", "unittest/case", "zipfile")  # fmt: skip


def sentences(count: int = COUNT) -> list[str]:
    """``count`` different paragraphs of 40 to 400 characters, spread over the modules."""
    folder = Path(sysconfig.get_path("stdlib"))
    found: dict[str, None] = {}
    for name in _MODULES:
        path = folder / f"{name}.py"
        if path.exists():
            for text in paragraphs(path.read_text(encoding="utf-8")):
                found.setdefault(text)
    texts = list(found)
    return texts[:: max(1, len(texts) // count)][:count]


def paragraphs(source: str) -> list[str]:
    """The first paragraph of each docstring in ``source``, on one line, if it is long enough to mean something."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = (ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))
    firsts = (re.sub(r"\s+", " ", doc.split("\n\n", 1)[0]).strip() for doc in docs if doc)
    return [text for text in firsts if 40 <= len(text) <= 400]
