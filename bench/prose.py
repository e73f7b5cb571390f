"""Real text that every machine has: docstrings and comments of the standard library, and the language reference in pydoc."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics  # type: ignore[import-not-found,unused-ignore]

LEAST, MOST = 60, 600
"""Characters of a paragraph that is kept."""

Document = tuple[str, list[str]]
"""(name, paragraphs)."""


def documents() -> list[Document]:
    """All documents by name, each paragraph once."""
    seen: set[str] = set()
    found = []
    for name, text in sorted([*_topics(), *_modules()]):
        kept = [paragraph for paragraph in paragraphs(text) if not (paragraph in seen or seen.add(paragraph))]  # type: ignore[func-returns-value]
        if kept:
            found.append((name, kept))
    return found


def paragraphs(text: str) -> list[str]:
    """What stands between blank lines, each on one line."""
    lines = (re.sub(r"\s+", " ", each).strip() for each in re.split(r"\n\s*\n", text))
    return [line for line in lines if LEAST <= len(line) <= MOST]


def said(source: str) -> str:
    """Docstrings and blocks of comments of a module, with blank lines between."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    lines = (line.strip() for line in source.split("\n"))
    comments = "\n".join(line.lstrip("#! ") if line.startswith("#") else "\n" for line in lines)
    return "\n\n".join([*docs, comments])


def _modules() -> Iterator[tuple[str, str]]:
    folder = Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if "site-packages" in name.parts:
            continue
        try:
            text = said(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):  # the standard library tests its parser with files that are wrong
            continue
        yield f"lib/{name.as_posix()}.txt", text


def _topics() -> Iterator[tuple[str, str]]:
    for name, text in topics.items():
        yield f"reference/{name}.txt", text
