"""How names are found in the tree of a spec, each with its place; it judges none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lsbuild.errors import Problem
from lsbuild.spec.marks import Node, Path
from lsbuild.suggest import did_you_mean


class Reference(NamedTuple):
    """A name that leads somewhere else, and where in the spec it stands."""

    path: Path
    name: str
    node: Node

    def fault(self, message: str) -> Problem:
        """What is wrong with it."""
        return Problem(self.path, message, self.node.origin.where)

    def missing(self, what: str, known: Iterable[str]) -> Problem:
        """It leads nowhere; ``known`` are the names that would have led somewhere."""
        return self.fault(f"there is no {what} '{self.name}'.{did_you_mean(self.name, known)}")


def section(tree: Node, name: str) -> Mapping[str, Node]:
    """The entries of a section by name; none where the spec has no such section."""
    found = tree.map.get(name)
    return found.map if found is not None else {}


def text(node: Node | None) -> str | None:
    """The text of a scalar; None for anything else, which the types refuse."""
    return node.value if node is not None and isinstance(node.value, str) else None


def named(entry: Node, path: Path, *keys: str) -> Iterator[Reference]:
    """The texts right under ``keys``."""
    for key in keys:
        node = entry.map.get(key)
        name = text(node)
        if node is not None and name is not None:
            yield Reference((*path, key), name, node)


def listed(entry: Node, path: Path, key: str) -> Iterator[Reference]:
    """Each text of the list under ``key``."""
    for index, node in enumerate(entry.map[key].list if key in entry.map else ()):
        name = text(node)
        if name is not None:
            yield Reference((*path, key, index), name, node)


def candidates(entry: Node, path: Path, key: str) -> Iterator[Reference]:
    """What the candidates of a route name under ``key``."""
    for index, candidate in enumerate(entry.map["route"].list if "route" in entry.map else ()):
        yield from named(candidate, (*path, "route", index), key)


def way(leads: Mapping[str, Sequence[str]], start: str, end: str) -> tuple[str, ...]:
    """Names from ``start`` to ``end`` along routes, both included; nothing when there is no way."""
    open_: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while open_:
        found = open_.pop()
        if found[-1] == end:
            return found
        for following in leads.get(found[-1], ()):
            if following not in seen:
                seen.add(following)
                open_.append((*found, following))
    return ()
