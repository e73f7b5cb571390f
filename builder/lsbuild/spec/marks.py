"""YAML text to a tree in which every value and key knows its line and column; it knows nothing of specs.

YAML 1.2 core schema only: ``yes`` is a text, ``0o17`` an octal number. Tags, duplicate keys, files that explode through
anchors, and nesting beyond reason are faults. The idea of marks on every value is ESPHome's ``yaml_util.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from lsbuild.errors import Problem, SpecError

MAX_BYTES = 1 << 20
MAX_NODES = 10_000
MAX_DEPTH = 32
MAX_DIGITS = 100

Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
Kind = Literal["file", "default", "target", "env", "param", "override"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: ``where`` is ``spec.yaml:12:5`` or ``--set models.chat.quantize``."""

    where: str
    kind: Kind = "file"


@dataclass(frozen=True, slots=True)
class Node:
    """One value: a scalar, a map or a list of nodes. ``keys`` holds the origins of a map's keys.

    ``text`` is what a substituted scalar was before it was read as a YAML value ("8321" of 8321).
    """

    value: Scalar | Mapping[str, Node] | Sequence[Node]
    origin: Origin
    keys: Mapping[str, Origin] = field(default_factory=dict)
    text: str | None = None

    @property
    def map(self) -> Mapping[str, Node]:
        """The entries, or nothing when this is not a map."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def list(self) -> Sequence[Node]:
        """The entries, or nothing when this is not a list."""
        return self.value if isinstance(self.value, Sequence) and not isinstance(self.value, str) else ()

    def plain(self) -> Any:
        """The value without marks."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.list] if is_list(self) else self.value

    def get(self, path: Path) -> Node | None:
        """The node at ``path``, or None."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            node = node.map.get(part) if isinstance(part, str) else dict(enumerate(node.list)).get(part)
        return node

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Node]]:
        """This node and all below it, each with its path."""
        yield path, self
        for key, node in self.map.items():
            yield from node.walk((*path, key))
        for index, node in enumerate(self.list):
            yield from node.walk((*path, index))


def is_list(node: Node) -> bool:
    """Whether the node is a list."""
    return isinstance(node.value, Sequence) and not isinstance(node.value, str)


def parse(text: str, name: str, problems: list[Problem]) -> Node:
    """The tree of one YAML document. ``name`` is the file's, for marks.

    Faults that leave a readable tree (duplicate keys, tags) are appended to ``problems``; SpecError when there is none.
    """
    reader = _Reader(name, text, problems)
    try:
        return reader.document()
    except MarkedYAMLError as error:
        raise SpecError([*problems, reader.syntax(error)]) from error
    except YAMLError as error:
        reason = getattr(error, "reason", str(error))
        raise SpecError([Problem((), f"not readable as YAML: {reason}", reader.offset(error))]) from error


def scalar(text: str) -> Scalar:
    """A plain scalar under the YAML 1.2 core schema; ValueError for numbers that JSON does not have."""
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return text[0] in "tT"
    if re.fullmatch(r"[-+]?[0-9]+", text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too large")
        return int(text)
    if re.fullmatch(r"0o[0-7]+", text):
        return int(text[2:], 8)
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return int(text[2:], 16)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return _finite(float(text), text)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", text):
        raise ValueError(f"{text} is not a number that a spec can hold")
    return text


def _finite(number: float, text: str) -> float:
    if number in {float("inf"), float("-inf")}:
        raise ValueError(f"{text} is too large")
    return number


class _Reader:
    """Builds the tree from ruamel's event stream; one document, one use."""

    def __init__(self, name: str, text: str, problems: list[Problem]) -> None:
        self._name = name
        self._text = text
        self._problems = problems
        self._events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._open: set[str] = set()
        self._count = 0

    def document(self) -> Node:
        """Read the one document."""
        next(self._events)
        start = next(self._events)
        if not isinstance(start, DocumentStartEvent):
            raise SpecError(
                [Problem((), "the file is empty; a spec is a map with at least `models:`", f"{self._name}:1:1")]
            )
        if start.version not in {None, (1, 2)}:
            self._fault(start, "this file asks for another version of YAML; a spec is YAML 1.2: remove the %YAML line")
        root = self._node(next(self._events), 1, ())
        next(self._events)
        if isinstance(another := next(self._events), DocumentStartEvent):
            self._fault(another, "a second document starts here; a spec is one document")
        return root

    def _node(self, event: Event, depth: int, path: Path) -> Node:
        before = self._count
        self._counted(event, 1)
        if depth > MAX_DEPTH:
            raise SpecError([Problem(path, f"nested more than {MAX_DEPTH} deep", self._where(event))])
        if isinstance(event, AliasEvent):
            return self._alias(event)
        tag = getattr(event, "tag", None)
        if tag not in {None, "!"} or (tag == "!" and not isinstance(event, ScalarEvent)):
            self._fault(event, f"the tag {_short(str(tag))} is not allowed; a spec holds plain values only", path)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._open.add(anchor)
        node = self._plain(event, depth, path)
        if anchor:
            self._open.discard(anchor)
            self._anchors[anchor] = (node, self._count - before)
        return node

    def _plain(self, event: Event, depth: int, path: Path) -> Node:
        if isinstance(event, MappingStartEvent):
            return self._map(event, depth, path)
        if isinstance(event, SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(entry := next(self._events), SequenceEndEvent):
                items.append(self._node(entry, depth + 1, (*path, len(items))))
            return Node(tuple(items), self._origin(event))
        return self._scalar(cast("ScalarEvent", event), path)

    def _scalar(self, event: ScalarEvent, path: Path) -> Node:
        text = self._whole(event, path)
        try:
            return Node(scalar(text) if event.implicit[0] and not event.style else text, self._origin(event))
        except ValueError as error:
            self._fault(event, str(error), path)
            return Node(text, self._origin(event))

    def _whole(self, event: ScalarEvent, path: Path) -> str:
        """The text of a scalar; escapes such as "\\ud800" make half a character, which no file can hold."""
        text = str(event.value)
        if text.isascii() or text == text.encode("utf-8", "replace").decode():
            return text
        self._fault(event, "holds half of a character (a lone surrogate)", path)
        return text.encode("utf-8", "replace").decode()

    def _map(self, event: Event, depth: int, path: Path) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Origin] = {}
        merged: list[Node] = []
        while not isinstance(entry := next(self._events), MappingEndEvent):
            if not isinstance(entry, ScalarEvent):
                raise SpecError(
                    [*self._problems, Problem(path, self._no_key(entry), self._where(entry))],
                )
            key = self._whole(entry, path)
            value = self._value(entry, next(self._events), depth, (*path, key))
            if key == "<<" and not entry.style:
                merged += value.list if is_list(value) else [value]
            elif key in values:
                first = keys[key].where.removeprefix(f"{self._name}:").partition(":")[0]
                self._fault(entry, f"the key '{key}' is given twice; the first is in line {first}", (*path, key))
            else:
                values[key], keys[key] = value, self._origin(entry)
        for base in merged:
            values = {**base.map, **values}
            keys = {**base.keys, **keys}
        return Node(values, self._origin(event), keys)

    def _value(self, key: Event, event: Event, depth: int, path: Path) -> Node:
        node = self._node(event, depth + 1, path)
        if isinstance(event, ScalarEvent) and not event.value and not event.style:
            return Node(None, self._origin(key))  # nothing was written; the key is what there is to look at
        return node

    def _no_key(self, event: Event) -> str:
        after = self._text[event.start_mark.index :][:2]
        if after.startswith("{") and self._text[event.start_mark.index - 1 : event.start_mark.index] in {"$", "{"}:
            return _QUOTE
        return "a key must be a plain text"

    def _alias(self, event: AliasEvent) -> Node:
        if event.anchor in self._open:
            raise SpecError([Problem((), f"*{event.anchor} refers to the value it stands in", self._where(event))])
        if event.anchor not in self._anchors:
            raise SpecError([Problem((), f"*{event.anchor} is used before &{event.anchor}", self._where(event))])
        node, size = self._anchors[event.anchor]
        self._counted(event, size - 1)
        return node

    def _counted(self, event: Event, nodes: int) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            message = f"more than {MAX_NODES:,} values after anchors are expanded; a spec this large is a mistake"
            raise SpecError([Problem((), message, self._where(event))])

    def _where(self, event: Event) -> str:
        return f"{self._name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"

    def _origin(self, event: Event) -> Origin:
        return Origin(self._where(event))

    def _fault(self, event: Event, message: str, path: Path = ()) -> None:
        self._problems.append(Problem(path, message, self._where(event)))

    def syntax(self, error: MarkedYAMLError) -> Problem:
        """What the parser said, with the usual causes in words."""
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = self._text.splitlines()
        row = lines[line] if line < len(lines) else ""
        message = str(error.problem or error.context or "not readable as YAML")
        if re.search(r"[\[{,:]\s*\$\{", row) and "expected" in message:
            message = _QUOTE
        elif "\\t" in message:
            message = "a tab cannot be used for indentation; use spaces"
        elif "mapping values are not allowed" in message:
            message = 'a colon followed by a blank starts a value; quote a text that contains one: "like: this"'
        elif error.context_mark is not None and error.context:
            message = f"{message} ({error.context} that starts in line {error.context_mark.line + 1})"
        return Problem((), message, f"{self._name}:{line + 1}:{column + 1}")

    def offset(self, error: YAMLError) -> str:
        """The place of a character that YAML does not allow."""
        at = int(getattr(error, "position", 0) or 0)
        before = self._text[:at]
        return f"{self._name}:{before.count(chr(10)) + 1}:{at - (before.rfind(chr(10)) + 1) + 1}"


_QUOTE = 'inside { } or [ ] a substitution must be quoted: {key: "${env.NAME}"}'


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:60]
