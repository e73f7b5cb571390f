"""Turn permissively licensed documentation into paragraphs of clean sentences; it reads archives and writes two files, no more."""

from __future__ import annotations

import argparse
import ast
import json
import re
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

DOC = re.compile(r"\.(rst|rst\.txt|md|txt|py)$")
SKIP = re.compile(
    r"(^|/)(tests?|testing|licen[cs]es?|locale|node_modules|_vendor|third_party)/|changelog|changes|history|licen[cs]e|authors|requirements",
    re.I,
)
ROLE = re.compile(r":[\w:+.-]+:`~?!?([^`<]+?)(?:\s*<[^>]*>)?`")
LINK = re.compile(r"`([^`<]+?)\s*<[^>]*>`_+")
MDLINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
REF = re.compile(r"`([^`]+)`_+")
BOLD = re.compile(r"\*{1,2}(\w[^*]*)\*{1,2}")
SPLIT = re.compile(r"(?<=[a-z0-9)`'\"]\.)\s+(?=[A-Z`\"])")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|resp|approx)\.$")
BAD = re.compile(r"[^\x20-\x7e]|\.\.\.|::|https?:|>>>|\|\||__\w+__ =|[<{]%|\$\{|\\|@\w+:")
PER_SOURCE = 14_000


def clean(text: str) -> str:
    """Plain prose with `code` in single backticks, from reStructuredText or Markdown."""
    text = MDLINK.sub(r"\1", LINK.sub(r"\1", ROLE.sub(r"`\1`", text)))
    text = REF.sub(r"\1", text.replace("``", "`"))
    return re.sub(r"\s+", " ", BOLD.sub(r"\1", text)).strip()


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph that are whole, short and made of plain characters."""
    found: list[str] = []
    for piece in SPLIT.split(clean(paragraph)):
        words = re.findall(r"[A-Za-z]{2,}", piece)
        whole = re.match(r"[A-Z`\"]", piece) and piece.endswith(".") and not ABBREVIATION.search(piece)
        balanced = piece.count("`") % 2 == 0 and piece.count("(") == piece.count(")") and piece.count('"') % 2 == 0
        if whole and balanced and 4 <= len(words) <= 28 and len(piece) <= 190 and not BAD.search(piece):
            found.append(piece)
    return found


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """(heading, sentences) for each prose paragraph; code, tables and directives are passed over."""
    heading = ""
    for block in re.split(r"\n\s*\n", text.replace("\r", "")):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        if len(lines) == 2 and re.fullmatch(r"([=\-~^#*\"+])\1{2,}", lines[1].strip()):
            heading = clean(lines[0])[:50]
            continue
        if lines[0].startswith("#") and len(lines) == 1:
            heading = clean(lines[0].lstrip("# "))[:50]
            continue
        first = lines[0].strip()
        indent = len(lines[0]) - len(lines[0].lstrip())
        if indent > 8 or first.startswith((".. ", ">>>", "|", "+-", "$", "```", ":", "<", "@", "==")):
            continue
        kept = sentences(" ".join(re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "", line).strip() for line in lines))
        if kept:
            yield heading, kept


def docstrings(source: str) -> str:
    """All docstrings of one Python file, as one text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n\n".join(doc for node in ast.walk(tree) if isinstance(node, kinds) and (doc := ast.get_docstring(node)))


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of the files in a folder, a tar or a zip."""
    if archive.is_dir():
        for path in sorted(archive.rglob("*")):
            if path.is_file() and DOC.search(path.name):
                yield str(path.relative_to(archive)), path.read_bytes()
    elif archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            for name in sorted(zipped.namelist()):
                if DOC.search(name) or name.endswith("PKG-INFO"):
                    yield name, zipped.read(name)
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() and member.size < 2_000_000 else None
                if stream and (DOC.search(member.name) or member.name.endswith("PKG-INFO")):
                    yield member.name, stream.read()


def licence(info: str) -> str:
    """The licence a package's own metadata declares."""
    for pattern in (
        r"^License-Expression: (.+)$",
        r"^Classifier: License :: (?:OSI Approved :: )?(.+)$",
        r"^License: (.+)$",
    ):
        if match := re.search(pattern, info, re.M):
            return match[1].strip()[:60]
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", help="sdist, folder, or NAME=LICENCE=PATH for one without PKG-INFO")
    parser.add_argument("--out", type=Path, default=Path("corpus.jsonl"))
    options = parser.parse_args()
    seen: set[int] = set()
    table: list[tuple[str, str, int]] = []
    with options.out.open("w") as out:
        for source in options.sources:
            *named, where = source.split("=")
            name, terms = named if named else (re.sub(r"\.(tar\.gz|zip)$", "", Path(where).name), "")
            documents: list[dict[str, object]] = []
            for path, data in members(Path(where)):
                text = data.decode("utf-8", "replace")
                if path.endswith("PKG-INFO"):
                    terms = terms or licence(text)
                    continue
                if SKIP.search(path):
                    continue
                paragraphs = []
                for heading, found in blocks(docstrings(text) if path.endswith(".py") else text):
                    fresh = [s for s in found if zlib.crc32(s.encode()) not in seen]
                    seen.update(zlib.crc32(s.encode()) for s in fresh)
                    if fresh:
                        paragraphs.append([heading, *fresh])
                if paragraphs:
                    documents.append({"source": name, "path": path, "paragraphs": paragraphs})
            # Prose documents first: they read more like what a user asks about than docstrings do.
            documents.sort(key=lambda d: (str(d["path"]).endswith(".py"), zlib.crc32(str(d["path"]).encode())))
            kept = 0
            for document in documents:
                if kept < PER_SOURCE:
                    out.write(json.dumps(document) + "\n")
                    kept += sum(len(p) - 1 for p in document["paragraphs"])  # type: ignore[attr-defined]
            table.append((name, terms, kept))
            print(f"{name:36} {terms:50} {kept}", flush=True)
    rows = "".join(f"| {name} | {terms} | {kept} |\n" for name, terms, kept in table)
    options.out.with_suffix(".sources.md").write_text("| source | licence | sentences |\n|---|---|---|\n" + rows)


if __name__ == "__main__":
    main()
