"""Text to a checked Spec: parse, merge the target, substitute, validate; every fault at once, each with its place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lsbuild import registry
from lsbuild.errors import Problem, SpecError
from lsbuild.spec import marks, merge, references, words
from lsbuild.spec.marks import Node, Origin
from lsbuild.spec.model import Spec
from lsbuild.spec.substitute import substitute

__all__ = ["Loaded", "Origin", "Row", "explain", "load", "resolved"]

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A spec for one target. ``origins`` says for the path of every written value where it came from.

    ``target_options`` are the keys under ``targets.TARGET`` that are the target's own (their origins stand under
    ``("targets", TARGET, key)``); ``sha256`` is of the file's bytes.
    """

    spec: Spec
    target: str
    target_options: Mapping[str, Any]
    origins: Mapping[marks.Path, Origin]
    sha256: str
    path: Path
    _options: Node

    def where(self, *path: str | int) -> str:
        """``spec.yaml:12:5`` of the value at ``path``, or of the nearest written value above it."""
        for end in range(len(path), -1, -1):
            if (origin := self.origins.get(path[:end])) is not None:
                return origin.where
        return str(self.path)

    def located(self, problems: Sequence[Problem]) -> list[Problem]:
        """``problems`` (paths from the spec's root) in file order, each with its place."""
        return in_order([replace(each, where=each.where or self.where(*each.path)) for each in problems])

    def options(self, model: type[Options]) -> Options:
        """The target's own options as its type; SpecError with places when they are not."""
        base = ("targets", self.target)
        try:
            return model.model_validate_json(json.dumps(self.target_options), strict=True)
        except ValidationError as error:
            faults = words.problems(error, model, self._options, base)
            raise SpecError(self.located([_or_spec_key(fault) for fault in faults])) from error


@dataclass(frozen=True, slots=True)
class Row:
    """One line of ``lsbuild config --explain``."""

    path: str
    value: Any
    origin: Origin


def load(path: Path, *, target: str | None = None, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> Loaded:
    """Read the spec at ``path`` for ``target``; ``overrides`` are ``KEY=VALUE`` as ``--set`` gives them.

    Raises SpecError with all faults found, in file order. Only a file that is not YAML stops at its first fault.
    """
    data = _read(path)
    text = _decode(data, str(path))
    problems: list[Problem] = []
    tree = marks.parse(text, str(path), problems)
    if not isinstance(tree.value, dict):
        message = f"a spec is a map with keys like `models:`, found {words.found_words(tree)}"
        raise SpecError([*problems, Problem((), message, tree.origin.where)])
    tree = _trimmed(tree)
    known = registry.find()
    if target is not None and target not in known.targets:
        problems.append(Problem((), merge.unknown_target(target, known.targets), f"--target {target}"))
    for override in (each for each in overrides if each.startswith("targets.")):
        tree = merge.assign(tree, override, problems)
    tree, options = merge.target(tree, target or "", Spec.model_fields.keys(), problems)
    for override in (each for each in overrides if not each.startswith("targets.")):
        tree = merge.assign(tree, override, problems)
    filled = substitute(tree, options, ("targets", target or ""), environ, problems)
    options = filled.options
    tree, spec = _validate(filled.tree, filled.failed, problems)
    problems += references.check(tree, targets=known.targets, providers=known.plugins)
    if problems or spec is None:
        raise SpecError(in_order(problems))
    origins = {place: node.origin for place, node in tree.walk() if not place or place[0] != "targets"}
    origins |= {("targets", target or "", *place): node.origin for place, node in options.walk()}
    return Loaded(
        spec=spec,
        target=target or "",
        target_options=options.plain(),
        origins=origins,
        sha256=hashlib.sha256(data).hexdigest(),
        path=path,
        _options=options,
    )


def text_of(path: Path) -> str:
    """The text of the file at ``path``, which may have the size of a spec and is UTF-8; SpecError when it is not."""
    return _decode(_read(path), str(path))


def resolved(loaded: Loaded) -> dict[str, Any]:
    """The whole spec as plain values, defaults included, in a form that can be loaded again."""
    plain = loaded.spec.model_dump(mode="json", exclude={"targets"}, exclude_none=True)
    plain["targets"] = {loaded.target: dict(loaded.target_options)} if loaded.target else {}
    return plain


def explain(loaded: Loaded) -> list[Row]:
    """Every value of the resolved spec with where it came from, in the order of the spec's types."""
    rows: list[Row] = []

    def visit(value: Any, path: marks.Path) -> None:
        if isinstance(value, dict) and value:
            for key, below in value.items():
                visit(below, (*path, key))
        elif isinstance(value, list) and value and isinstance(value[0], dict | list):
            for index, below in enumerate(value):
                visit(below, (*path, index))
        else:
            origin = loaded.origins.get(path, Origin("", "default"))
            rows.append(Row(".".join(str(part) for part in path), value, origin))

    visit(resolved(loaded), ())
    return rows


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """By line and column; those without a place first. Doubles are dropped."""

    def position(problem: Problem) -> tuple[int, int]:
        match = re.search(r":(\d+):(\d+)$", problem.where)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    return sorted(dict.fromkeys(problems), key=position)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise SpecError([Problem((), "is a folder; name the spec file in it, like spec.yaml", str(path))])
        with path.open("rb") as stream:
            data = stream.read(marks.MAX_BYTES + 1)
    except OSError as error:
        raise SpecError([Problem((), f"cannot be read: {error.strerror}", str(path))]) from error
    if len(data) > marks.MAX_BYTES:
        raise SpecError(
            [
                Problem(
                    (), f"larger than {marks.MAX_BYTES:,} bytes; a spec names files, it does not hold them", str(path)
                )
            ]
        )
    return data


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        where = f"{name}:{before.count(10) + 1}:{error.start - (before.rfind(10) + 1) + 1}"
        raise SpecError([Problem((), "not UTF-8; save the file in that encoding", where)]) from error


def _trimmed(tree: Node) -> Node:
    """Without ``x-`` keys; ``host:`` with nothing under it is a target without options."""
    values = {key: node for key, node in tree.map.items() if not key.startswith("x-")}
    if (targets := values.get("targets")) is not None and isinstance(targets.value, dict):
        named = {key: replace(node, value={}) if node.value is None else node for key, node in targets.map.items()}
        values["targets"] = replace(targets, value=named)
    return replace(tree, value=values)


def _validate(tree: Node, failed: frozenset[marks.Path], problems: list[Problem]) -> tuple[Node, Spec | None]:
    """The Spec, or None with what is wrong in ``problems``. What the environment gave as a number may be meant as a text."""
    try:
        return tree, _as_spec(tree)
    except ValidationError as error:
        first = error
    again = tree
    for fault in first.errors(include_url=False):
        again = _as_text(again, fault["loc"]) if fault["type"] == "string_type" else again
    try:
        return again, _as_spec(again)
    except ValidationError as error:
        problems += [fault for fault in words.problems(error, Spec, again) if fault.path not in failed]
        return again, None


def _as_spec(tree: Node) -> Spec:
    return Spec.model_validate_json(json.dumps(tree.plain()), strict=True)


def _as_text(node: Node, path: tuple[str | int, ...]) -> Node:
    """The tree with the substituted scalar at ``path`` as the text it was."""
    if not path:
        return replace(node, value=node.text, text=None) if node.text is not None else node
    part, rest = path[0], path[1:]
    below = node.get((part,))
    if below is None or (changed := _as_text(below, rest)) is below:
        return node
    if isinstance(part, int):
        items = list(node.list)
        items[part] = changed
        return replace(node, value=tuple(items))
    return replace(node, value={**node.map, part: changed})


def _or_spec_key(problem: Problem) -> Problem:
    """An unknown key under a target may be a mistyped key of the spec."""
    from lsbuild.suggest import did_you_mean

    hint = did_you_mean(str(problem.path[-1]), Spec.model_fields)
    if problem.message.startswith("unknown key") and "Did you mean" not in problem.message and "Did you mean" in hint:
        return replace(problem, message=problem.message.partition(" There is:")[0] + hint)
    return problem
