"""Later values over earlier ones: ``targets.T`` and ``--set`` over the file; pure, on trees with marks.

Maps merge deep, lists of maps by their ``id``, everything else is replaced, and null removes (ESPHome's rules).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lsbuild.errors import Problem, SpecError
from lsbuild.spec.marks import Kind, Node, Origin, Path, is_list, parse
from lsbuild.suggest import did_you_mean

FIXED = frozenset({"version", "targets"})
"""Keys of the spec that a target cannot override."""


def over(base: Node, upper: Node) -> Node:
    """``upper`` merged over ``base``."""
    if isinstance(base.value, dict) and isinstance(upper.value, dict):
        values, keys = dict(base.map), dict(base.keys)
        for key, node in upper.map.items():
            if node.value is None:
                values.pop(key, None)
                keys.pop(key, None)
            else:
                values[key] = over(values[key], node) if key in values else without_nulls(node)
                keys[key] = upper.keys.get(key, node.origin)
        return replace(base, value=values, keys=keys)
    if is_list(base) and is_list(upper) and _named(base) and _named(upper):
        return replace(upper, value=_by_id(base.list, upper.list))
    return upper


def without_nulls(node: Node) -> Node:
    """A map that had nothing below it: its nulls have nothing to remove."""
    if not isinstance(node.value, dict):
        return node
    return replace(node, value={key: without_nulls(each) for key, each in node.map.items() if each.value is not None})


def _named(node: Node) -> bool:
    return bool(node.list) and all("id" in entry.map for entry in node.list)


def _by_id(base: Sequence[Node], upper: Sequence[Node]) -> tuple[Node, ...]:
    merged = {entry.map["id"].plain(): entry for entry in base}
    for entry in upper:
        name = entry.map["id"].plain()
        merged[name] = over(merged[name], entry) if name in merged else entry
    return tuple(merged.values())


def coloured(node: Node, kind: Kind) -> Node:
    """The same tree with every origin of ``kind``."""
    value = node.value
    if isinstance(value, dict):
        value = {key: coloured(each, kind) for key, each in value.items()}
    elif is_list(node):
        value = tuple(coloured(each, kind) for each in node.list)
    keys = {key: replace(origin, kind=kind) for key, origin in node.keys.items()}
    return replace(node, value=value, origin=replace(node.origin, kind=kind), keys=keys)


def target(tree: Node, name: str, spec_keys: Collection[str], problems: list[Problem]) -> tuple[Node, Node]:
    """The tree with ``targets.NAME`` merged over it, and what of it is the target's own options."""
    own = tree.get(("targets", name))
    if own is None or own.value is None:
        return tree, Node({}, own.origin if own else Origin("", "default"))
    if not isinstance(own.value, dict):
        return tree, Node({}, own.origin)  # validation says what is wrong with it
    own = coloured(own, "target")
    problems += [
        Problem(("targets", name, key), f"'{key}' cannot differ by target", own.keys[key].where)
        for key in sorted(FIXED & own.map.keys())
    ]
    overrides = {key: node for key, node in own.map.items() if key in spec_keys and key not in FIXED}
    options = {key: node for key, node in own.map.items() if key not in spec_keys}
    merged = over(tree, Node(overrides, own.origin, own.keys))
    return merged, Node(options, own.origin, {key: own.keys[key] for key in options})


def assign(tree: Node, override: str, problems: list[Problem]) -> Node:
    """``models.chat.quantize=int8`` as ``--set`` gives it; the value is YAML, null removes."""
    dotted, equals, text = override.partition("=")
    where = f"--set {dotted}"
    if not equals or not dotted:
        problems.append(Problem((), "expected KEY=VALUE, like models.chat.quantize=int8", f"--set {override}"))
        return tree
    try:
        value = coloured(parse(text or "''", where, problems), "override")
    except SpecError as error:
        problems.extend(error.problems)
        return tree
    origin = Origin(where, "override")
    value = _all_at(value, origin)
    path = _path(tree, dotted)
    if isinstance(path[-1], int) or any(isinstance(part, int) for part in path):
        return _set_in_list(tree, path, value, problems, origin)
    for part in reversed(path):
        value = Node({str(part): value}, origin, {str(part): origin})
    return over(tree, value)


def _all_at(node: Node, origin: Origin) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _all_at(each, origin) for key, each in value.items()}
    elif is_list(node):
        value = tuple(_all_at(each, origin) for each in node.list)
    return Node(value, origin, dict.fromkeys(node.keys, origin))


def _path(tree: Node, dotted: str) -> Path:
    """Split at dots, but take the longest existing key first: names of models may contain dots (``qwen2.5``)."""
    parts = dotted.split(".")
    path: list[str | int] = []
    node: Node | None = tree
    while parts:
        take = 1
        if node is not None and is_list(node) and parts[0].isdigit():
            index = int(parts.pop(0))
            path.append(index)
            node = node.get((index,))
            continue
        for end in range(len(parts), 0, -1):
            if node is not None and ".".join(parts[:end]) in node.map:
                take = end
                break
        key = ".".join(parts[:take])
        path.append(key)
        node = node.map.get(key) if node is not None else None
        parts = parts[take:]
    return tuple(path)


def _set_in_list(tree: Node, path: Path, value: Node, problems: list[Problem], origin: Origin) -> Node:
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        if part >= len(tree.list):
            problems.append(Problem(path, f"the list has {len(tree.list)} entries, there is no {part}", origin.where))
            return tree
        items = list(tree.list)
        items[part] = _set_in_list(items[part], rest, value, problems, origin) if rest else value
        return replace(tree, value=tuple(items))
    child = tree.map.get(part, Node({}, origin))
    return replace(
        tree, value={**tree.map, part: _set_in_list(child, rest, value, problems, origin) if rest else value}
    )


def unknown_target(name: str, known: Collection[str]) -> str:
    """The message for a target that does not exist."""
    return f"unknown target '{name}'.{did_you_mean(name, known)}"
