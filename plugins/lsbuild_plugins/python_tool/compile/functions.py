"""The public functions of a Python file as tool definitions, from its syntax tree; the file is never imported."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from lsbuild.api import Json, SourceError
from lsbuild_plugins.python_tool.compile import docstring
from lsbuild_plugins.python_tool.compile.types import KNOWN, Types

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Definition(NamedTuple):
    """One tool: the function's name, what its docstring says, the JSON Schema of its parameters."""

    name: str
    description: str
    parameters: dict[str, Json]


def read(text: str, where: str) -> list[Definition]:
    """The tools of the file ``where``, in its order. SourceError with file and line for what cannot be one."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise SourceError(
            f"not a Python file: {getattr(error, 'msg', error)}", where=f"{where}:{line}", hint="Correct the line."
        ) from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    types = Types(where, classes, _aliases(tree))
    functions = {node.name: node for node in tree.body if isinstance(node, Function)}
    wanted = _exported(tree, types)
    if wanted is not None:
        for node, name in wanted:
            if name not in functions and name not in classes:
                raise types.fault(node, f"__all__ names {name!r}, which is no function here", "Correct __all__.")
        chosen = [functions[name] for _, name in wanted if name in functions]
    else:
        chosen = [node for name, node in functions.items() if not name.startswith("_")]
    if not chosen:
        raise SourceError(
            "there is no public function: nothing could be called",
            where=f"{where}:1",
            hint="Write a function whose name does not begin with an underscore, or name it in __all__.",
        )
    return [_definition(node, types) for node in chosen]


def _exported(tree: ast.Module, types: Types) -> list[tuple[ast.AST, str]] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(each, ast.Name) and each.id == "__all__" for each in node.targets
        ):
            known, value = types.value(node.value)
            if not isinstance(node.value, ast.List | ast.Tuple):
                raise types.fault(node, "__all__ is not a list of names", 'Write __all__ = ["name"].')
            names = value if known else [getattr(each, "value", None) for each in node.value.elts]
            if not all(isinstance(name, str) for name in names):
                raise types.fault(node, "__all__ is not a list of names", 'Write __all__ = ["name"].')
            return [(node, str(name)) for name in names]
    return None


def _aliases(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that are given a type at the top level: ``Unit = Literal["bar", "psi"]``, ``Text = str | None``."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            if isinstance(node.value, ast.Subscript | ast.BinOp):
                found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias":
                found[node.target.id] = node.value
        elif type(node).__name__ == "TypeAlias":  # Python 3.12's `type X = ...`
            found[node.name.id] = node.value  # type: ignore[attr-defined]
    return found


def _definition(node: Function, types: Types) -> Definition:
    if not _NAME.fullmatch(node.name):
        raise types.fault(
            node, f"{node.name!r} is no name of a tool", "Use at most 64 letters, digits and underscores."
        )
    text = ast.get_docstring(node)
    if not text:
        raise types.fault(
            node,
            f"the function {node.name!r} has no docstring, by which models know what it is for",
            "Say in a docstring what it does, or begin its name with an underscore.",
        )
    description, told = docstring.read(text)
    arguments = node.args
    for kind, extra in (("*", arguments.vararg), ("**", arguments.kwarg)):
        if extra is not None:
            raise types.fault(extra, f"{node.name}: {kind}{extra.arg} has no schema", "Name each parameter.")
    if arguments.posonlyargs:
        only = arguments.posonlyargs[0]
        raise types.fault(only, f"{node.name}: {only.arg!r} can only be given by place", "Leave out the '/'.")
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + list(arguments.defaults)
    parameters = [
        *zip(arguments.args, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    properties: dict[str, Json] = {}
    for argument, default in parameters:
        properties[argument.arg] = _property(argument, default, told.get(argument.arg, ""), node.name, types)
    schema: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
    if needed := [argument.arg for argument, default in parameters if default is None]:
        schema["required"] = needed
    return Definition(node.name, description, schema)


def _property(argument: ast.arg, default: ast.expr | None, told: str, owner: str, types: Types) -> dict[str, Json]:
    if argument.annotation is None:
        what = f"{owner}: the parameter {argument.arg!r} has no type, so it has no schema"
        raise types.fault(argument, what, f"Annotate it with {KNOWN}.")
    schema = types.schema(argument.annotation)
    if told:
        schema["description"] = told
    known, value = types.value(default) if default is not None else (False, None)
    return {**schema, "default": value} if known else schema
