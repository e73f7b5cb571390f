"""``${env.X}``, ``${env.X:=default}`` and ``${params.x}`` in scalar values, after parsing; never in keys or structure.

A value that is one substitution keeps its YAML type: ``port: "${env.PORT:=8321}"`` is a number. Inside a provider's
``config``, and where a tool says what it asks, the environment is left alone: it is read when the service is opened, on
the machine that serves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lsbuild.errors import Problem
from lsbuild.spec.marks import Node, Origin, Path, Scalar, is_list, scalar
from lsbuild.suggest import did_you_mean

_TOKEN = re.compile(r"\$\$|\$\{(?P<body>[^{}]*)\}|\$\{")
_BODY = re.compile(
    r"env\.(?P<env>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:=.*)?|params\.(?P<param>[A-Za-z0-9_.-]+)", re.DOTALL
)
_SERVED = {
    "models": ("config",),
    "vector_stores": ("config",),
    "agents": ("config",),
    "tools": ("config", "http", "mcp"),
}
"""Sections with the keys whose values are read where the artifact runs."""


@dataclass(frozen=True, slots=True)
class Substituted:
    """The tree with values in place; ``failed`` are the paths whose value is not to be trusted."""

    tree: Node
    options: Node
    failed: frozenset[Path]


@dataclass(slots=True)
class _Scope:
    environ: Mapping[str, str]
    params: Mapping[str, Scalar] | None
    problems: list[Problem]
    failed: set[Path] = field(default_factory=set)


def substitute(
    tree: Node, options: Node, base: Path, environ: Mapping[str, str], problems: list[Problem]
) -> Substituted:
    """Fill in the whole tree but ``targets``, and the target's ``options``, which stand at ``base``.

    Params are filled from the environment first, then the rest from both. What was filled in is not looked at again.
    """
    scope = _Scope(environ, None, problems)
    params = tree.map.get("params")
    values = dict(tree.map)
    if params is not None and isinstance(params.value, dict):
        values["params"] = _node(params, ("params",), scope)
        scope.params = {key: _plain_scalar(node) for key, node in values["params"].map.items()}
    else:
        scope.params = {}
    for key, node in tree.map.items():
        if key not in {"params", "targets"}:
            values[key] = _node(node, (key,), scope)
    options = _node(options, base, scope)
    return Substituted(replace(tree, value=values), options, frozenset(scope.failed))


def _plain_scalar(node: Node) -> Scalar:
    return node.value if isinstance(node.value, str | int | float | bool) else None


def _node(node: Node, path: Path, scope: _Scope) -> Node:
    if isinstance(node.value, dict):
        return replace(node, value={key: _node(each, (*path, key), scope) for key, each in node.map.items()})
    if is_list(node):
        return replace(node, value=tuple(_node(each, (*path, index), scope) for index, each in enumerate(node.list)))
    if isinstance(node.value, str) and "$" in node.value:
        return _text(node, node.value, path, scope)
    return node


def _text(node: Node, text: str, path: Path, scope: _Scope) -> Node:
    served = len(path) > 3 and path[2] in _SERVED.get(str(path[0]), ())
    kinds: list[str] = []
    whole: list[Scalar] = []

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$$" if served else "$"
        try:
            if served and (match["body"] or "").startswith("env."):
                return match[0]
            kind, value = _value(match["body"], scope)
        except _Unknown as error:
            scope.problems.append(Problem(path, str(error), node.origin.where))
            scope.failed.add(path)
            return match[0]
        kinds.append(kind)
        if match[0] == text:
            whole.append(value)
        return value if isinstance(value, str) else _spelled(value)

    filled = _TOKEN.sub(fill, text)
    if not kinds or path in scope.failed:
        return replace(node, value=filled)
    origin = Origin(node.origin.where, "param" if "param" in kinds else "env")
    value: Scalar = filled
    if whole:
        value = _typed(filled) if kinds == ["env"] else whole[0]
    return replace(node, value=value, origin=origin, text=filled)


def _typed(text: str) -> Scalar:
    try:
        return scalar(text) if text else text
    except ValueError:
        return text


def _spelled(value: Scalar) -> str:
    return {True: "true", False: "false", None: ""}[value] if isinstance(value, bool | None) else str(value)


class _Unknown(Exception):
    """A substitution without a value."""


def _value(body: str | None, scope: _Scope) -> tuple[str, Scalar]:
    """("env" | "param", value) of what stands between the braces."""
    match = _BODY.fullmatch(body) if body is not None else None
    if body is None:
        raise _Unknown("'${' without '}'; write '$${' for a literal '${'")
    if match is None:
        raise _Unknown(
            f"'${{{body}}}' is not understood; write ${{env.NAME}}, ${{env.NAME:=default}} or ${{params.NAME}}, "
            "and '$${' for a literal '${'"
        )
    if match["param"] is not None:
        return "param", _param(match["param"], scope)
    name, default = match["env"], match["default"]
    if found := scope.environ.get(name, ""):
        if found != found.encode("utf-8", "replace").decode():
            raise _Unknown(f"the environment variable {name} does not hold UTF-8")
        return "env", found
    if default is not None:
        return "env", default[2:]
    if name in scope.environ:
        return "env", ""
    raise _Unknown(f"the environment variable {name} is not set; set it, or give a default: ${{env.{name}:=default}}")


def _param(name: str, scope: _Scope) -> Scalar:
    if scope.params is None:
        raise _Unknown("a param cannot be made from another param; use ${env.NAME} or a plain value")
    if name not in scope.params:
        raise _Unknown(
            f"there is no param '{name}'.{did_you_mean(name, scope.params)} Params are given under 'params:'"
        )
    return scope.params[name]
