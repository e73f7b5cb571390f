"""Workflows in a spec: what each step needs, what it refers to, and what its conditions and ``{{...}}`` lead to; pure.

It works on the tree, so that every fault is told with its place. The order of the steps is the order of the work: a step
may refer to those before it in its own list and in the lists around it, which is why there can be no circle.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from lsbuild.errors import Problem
from lsbuild.spec.marks import Node, Path, is_list
from lsbuild.suggest import did_you_mean

KINDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "agent": (frozenset({"prompt"}), frozenset()),
    "model": (frozenset({"prompt"}), frozenset({"system", "answer", "tokens", "temperature"})),
    "tool": (frozenset(), frozenset({"arguments"})),
    "search": (frozenset({"query"}), frozenset({"limit"})),
    "shield": (frozenset({"text"}), frozenset({"where"})),
    "branch": (frozenset(), frozenset()),
    "map": (frozenset({"steps"}), frozenset({"concurrency"})),
    "approval": (frozenset(), frozenset()),
}
"""What a step does -> the keys that it needs, and those that it may have besides."""
GIVES: Mapping[str, tuple[str, ...]] = {
    "agent": ("text", "annotations"),
    "model": ("text",),
    "tool": ("text", "structured"),
    "search": ("text", "hits", "count"),
    "shield": ("text", "allowed", "categories", "message"),
    "map": ("text", "items", "count"),
    "approval": ("text", "approved", "reason"),
}
"""What later steps can see of a step, beside ``failed``."""
OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "matches", "exists")

_EVERY = frozenset({"retries", "timeout", "on_error"})
_TRIED = ("agent", "model", "tool", "search", "shield")
_NAMES = {"agent": "agents", "model": "models", "tool": "tools", "search": "vector_stores", "shield": "shields"}
_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_REFERENCE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

Seen = dict[str, frozenset[str] | None]
"""Steps that can be referred to, each with the fields it gives; None: not known before it runs."""


def check(tree: Node) -> Iterator[Problem]:
    """Every fault of every workflow."""
    section = tree.map.get("workflows")
    for name, workflow in (section.map if section is not None else {}).items():
        yield from _Checked(tree, ("workflows", name)).problems(workflow)


class _Checked:
    """One workflow under inspection."""

    def __init__(self, tree: Node, path: Path) -> None:
        self._tree = tree
        self._path = path
        self._names: set[str] = set()

    def problems(self, workflow: Node) -> Iterator[Problem]:
        seen: Seen = {}
        yield from self._steps(workflow.map.get("steps"), (*self._path, "steps"), seen, frozenset({"input", "steps"}))
        if (output := workflow.map.get("output")) is not None:
            yield from self._templates(output, (*self._path, "output"), seen, frozenset({"input", "steps"}))

    def _steps(self, steps: Node | None, path: Path, seen: Seen, roots: frozenset[str]) -> Iterator[Problem]:
        """Faults of a list of steps; adds them to ``seen``, each after it was looked at."""
        for name, step in (steps.map if steps is not None else {}).items():
            where = steps.keys[name].where if steps is not None else ""
            if "." in name:
                yield Problem((*path, name), f"'{name}' is no name of a step: it has a dot in it", where)
            if name in self._names:
                yield Problem((*path, name), f"there are two steps '{name}' in this workflow", where)
            self._names.add(name)
            yield from self._step(step, (*path, name), seen, roots, where)
            seen[name] = self._gives(step)

    def _step(self, step: Node, path: Path, seen: Seen, roots: frozenset[str], where: str) -> Iterator[Problem]:
        kinds = [kind for kind in KINDS if kind in step.map]
        if len(kinds) != 1:
            what = f"it has {' and '.join(kinds)}" if kinds else "it has none of them"
            yield Problem(path, f"a step has one of {', '.join(KINDS)}; {what}", where)
            return
        (kind,) = kinds
        needed, more = KINDS[kind]
        for key in sorted(needed - step.map.keys()):
            yield Problem(path, f"a step with '{kind}' needs '{key}'", where)
        known = {kind, *needed, *more, *(_EVERY if kind in _TRIED else ())}
        for key in step.map:
            if key not in known and key in _ALL:
                yield Problem((*path, key), f"a step with '{kind}' has no '{key}'", step.keys[key].where)
        yield from self._leads(kind, step, path)
        for key in ("prompt", "system", "arguments", "query", "text", "map", "approval"):
            if key in step.map:
                yield from self._templates(step.map[key], (*path, key), seen, roots)
        yield from self._inner(kind, step, path, seen, roots)

    def _inner(self, kind: str, step: Node, path: Path, seen: Seen, roots: frozenset[str]) -> Iterator[Problem]:
        if kind == "map":
            yield from self._list(step.map["map"], (*path, "map"))
            inside = roots | {"item", "index"}
            yield from self._steps(step.map.get("steps"), (*path, "steps"), dict(seen), inside)
        for index, case in enumerate(step.map["branch"].list if kind == "branch" else ()):
            at = (*path, "branch", index)
            when = case.map.get("when")
            for key, test in (when.map if when is not None else {}).items():
                origin = when.keys[key].where if when is not None else ""
                yield from self._condition(key, test, (*at, "when", key), origin, seen, roots)
            yield from self._steps(case.map.get("steps"), (*at, "steps"), dict(seen), roots)
            if when is None and index + 1 < len(step.map["branch"].list):
                message = "this way is always taken, so those behind it never are; say 'when', or put it last"
                yield Problem(at, message, case.origin.where)
        if kind == "approval" and "item" in roots:
            yield Problem(path, "nobody can be asked inside a map; ask before it or after it", step.origin.where)

    def _list(self, node: Node, path: Path) -> Iterator[Problem]:
        if isinstance(node.value, str) and not _PLACE.fullmatch(node.value.strip()):
            message = "a map goes over one list: write {{...}} and nothing else"
            yield Problem(path, message, node.origin.where)

    def _leads(self, kind: str, step: Node, path: Path) -> Iterator[Problem]:
        node = step.map[kind]
        if kind not in _NAMES or not isinstance(node.value, str):
            return
        known = self._section(_NAMES[kind])
        if kind == "agent":  # a workflow is asked as an agent is
            known |= {name: each for name, each in self._section("workflows").items() if name != self._path[1]}
        name = node.value.partition(".")[0] if kind == "tool" and node.value not in known else node.value
        word = _NAMES[kind].removesuffix("s").replace("_", " ")
        if name not in known:
            message = f"there is no {word} '{name}'.{did_you_mean(name, known)}"
            yield Problem((*path, kind), message, node.origin.where)
        elif kind == "model" and (model := known[name].map.get("type")) is not None and model.value != "llm":
            message = f"'{name}' is of type {model.value}; a step asks models of type llm"
            yield Problem((*path, kind), message, node.origin.where)

    def _section(self, name: str) -> dict[str, Node]:
        section = self._tree.map.get(name)
        return dict(section.map) if section is not None else {}

    def _gives(self, step: Node) -> frozenset[str] | None:
        for kind, fields in GIVES.items():
            if kind in step.map:
                return frozenset({*fields, "failed", *(("json",) if "answer" in step.map else ())})
        return None

    def _templates(self, node: Node, path: Path, seen: Seen, roots: frozenset[str]) -> Iterator[Problem]:
        for key, below in node.map.items():
            yield from self._templates(below, (*path, key), seen, roots)
        for index, below in enumerate(node.list if is_list(node) else ()):
            yield from self._templates(below, (*path, index), seen, roots)
        if not isinstance(node.value, str):
            return
        if "{{" in _PLACE.sub("", node.value):
            yield Problem(path, "'{{' without '}}'", node.origin.where)
        for match in _PLACE.finditer(node.value):
            yield from self._reference(match[1].strip(), path, node.origin.where, seen, roots)

    def _reference(
        self, reference: str, path: Path, where: str, seen: Seen, roots: frozenset[str]
    ) -> Iterator[Problem]:
        parts = reference.split(".")
        if not _REFERENCE.fullmatch(reference):
            example = "{{input.text}} or {{steps.NAME.text}}"
            yield Problem(path, f"'{{{{{reference}}}}}' is not the name of a value, such as {example}", where)
        elif parts[0] not in roots:
            message = f"there is no '{parts[0]}' here.{did_you_mean(parts[0], roots)}"
            yield Problem(path, message, where)
        elif parts[0] == "steps" and (len(parts) == 1 or parts[1] not in seen):
            name = parts[1] if len(parts) > 1 else ""
            why = "runs later, or only on another way" if name in self._later() else "does not exist"
            yield Problem(path, f"the step '{name}' {why}.{did_you_mean(name, seen) if seen else ''}", where)
        elif parts[0] == "steps" and len(parts) > 2 and (fields := seen[parts[1]]) and parts[2] not in fields:
            yield Problem(path, f"the step '{parts[1]}' gives no '{parts[2]}'.{did_you_mean(parts[2], fields)}", where)

    def _later(self) -> Collection[str]:
        """The names of all steps of the workflow."""
        found: set[str] = set()
        workflow = self._tree.get(self._path)
        open_ = [workflow] if workflow is not None else []
        while open_:
            node = open_.pop()
            if (steps := node.map.get("steps")) is not None:
                found |= steps.map.keys()
            open_ += [*node.map.values(), *node.list]
        return found

    def _condition(
        self, key: str, test: Node, path: Path, where: str, seen: Seen, roots: frozenset[str]
    ) -> Iterator[Problem]:
        yield from self._reference(key, path, where, seen, roots)
        if is_list(test):
            yield Problem(path, "expected a value, or a map such as {in: [a, b]}", test.origin.where)
        for operator, value in test.map.items():
            if operator not in OPERATORS:
                message = f"there is no test '{operator}'.{did_you_mean(operator, OPERATORS)}"
                yield Problem((*path, operator), message, test.keys[operator].where)
            elif operator in ("in", "nin") and not is_list(value):
                yield Problem((*path, operator), f"'{operator}' takes a list", value.origin.where)
            elif operator == "exists" and not isinstance(value.value, bool):
                yield Problem((*path, operator), "'exists' takes true or false", value.origin.where)
            elif operator == "matches" and (fault := _pattern_fault(value.value)):
                yield Problem((*path, operator), fault, value.origin.where)


def _pattern_fault(pattern: object) -> str:
    if not isinstance(pattern, str):
        return "'matches' takes a regular expression"
    import re2  # only specs with patterns need it

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        return f"not a regular expression that RE2 takes: {why}"
    return ""


_ALL = {*KINDS, *_EVERY, *(key for needed, more in KINDS.values() for key in needed | more)}
