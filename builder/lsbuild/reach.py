"""Which files of a distribution some of its modules need: themselves, their packages, and what these import; it runs none."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

_DATA = (".csv", ".dat", ".json", ".txt")


def reached(files: Mapping[str, bytes], modules: Iterable[str]) -> frozenset[str]:
    """The names of the files that ``modules`` (``stdnum.us.ssn``) come to.

    ``files`` are all of the distribution, by their place below site-packages. Imports count wherever they stand, and a data
    file does where a module holds its place as a string (``"cn/loc"`` for ``stdnum/cn/loc.dat``). What is put together at run
    time is not seen. LookupError for a module that is not there.
    """
    data = {path.partition("/")[2].rpartition(".")[0]: path for path in files if path.endswith(_DATA)}
    waiting = list(modules)
    for module in waiting:
        if _file(module, files) is None:
            raise LookupError(module)
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        path = _file(module, files)
        if path is None or path in found:
            continue
        found.add(path)
        tree = ast.parse(files[path])
        package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
        waiting += [module.rpartition(".")[0], *_imported(tree, package)]
        found |= {data[text] for text in _texts(tree) if text in data}
    return frozenset(found)


def _file(module: str, files: Mapping[str, bytes]) -> str | None:
    """The file of a module or a package; None when the distribution has none of that name."""
    place = module.replace(".", "/")
    return next((path for path in (f"{place}/__init__.py", f"{place}.py") if path in files), None)


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Every name that could be a module: ``from a import b`` may mean ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
