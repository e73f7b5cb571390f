"""A call that the limit of tokens cut short: its name and its arguments as far as they came, which is how OpenAI answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lsbuild_plugins.onnx.serve import calls
from lsbuild_plugins.onnx.serve.forms import ToolForm

_NAME = re.compile(r"\s*([\w.\-]{1,64})(?=[^\w.\-])")


def cut(text: str, form: ToolForm, types: calls.Types) -> calls.Call | None:
    """What ``text``, the beginning of a call with ``form.open``, was to become; None before its name is whole.

    The arguments are the beginning of a JSON text. Forms that do not write JSON give the arguments that are whole.
    """
    rest = _after(text, form.open)
    if rest is None:
        return None
    if form.shape == "object":
        return _object(rest, form)
    named = _NAME.match(rest)
    if named is None:
        return None
    name, body = named[1], rest[named.end() :]
    if form.shape == "python":
        return name, _begun(_python(name, body))
    inside = _after(body, form.middle)
    if form.shape == "named":
        return name, (inside or "").lstrip()
    return name, _begun({} if inside is None else _pairs(name, inside, form, types))


def _after(text: str, mark: str) -> str | None:
    """What stands behind ``mark``, compared without white space; None when ``text`` ends within it or has another."""
    at = 0
    for sign in "".join(mark.split()):
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text) or text[at] != sign:
            return None
        at += 1
    return text[at:]


def _object(text: str, form: ToolForm) -> calls.Call | None:
    name = re.search(rf'"(?:{re.escape(form.name_key)}|name)"\s*:\s*"([\w.\-]{{1,64}})"', text)
    if name is None:
        return None
    given = re.search(rf'"(?:{re.escape(form.arguments_key)}|arguments|parameters)"\s*:\s*', text)
    return name[1], text[given.end() :] if given is not None else ""


def _pairs(name: str, text: str, form: ToolForm, types: calls.Types) -> Mapping[str, Any]:
    if form.quote:
        return _longest(text, ",", lambda part: calls.of_quoted(name, part, form))
    parts = text.split(form.value_close.strip())[:-1] if form.value_close.strip() else []
    pairs: dict[str, str] = {}
    for part in parts:
        inside = _after(part.removeprefix(form.pair_join), form.key_open)
        key, found, value = (inside or "").partition(form.key_close.strip())
        if found:
            pairs[key.strip()] = value.strip("\n")
    call = calls.of_strings(name, pairs, types)
    return _arguments(call)


def _python(name: str, text: str) -> Mapping[str, Any]:
    return _longest(text.lstrip().removeprefix("("), ",", lambda part: calls.of_python(name, f"({part})"))


def _longest(text: str, between: str, read: Callable[[str], calls.Call | None]) -> Mapping[str, Any]:
    """What the most of ``text`` gives that ends before a ``between`` and can be read."""
    end = len(text)
    while (end := text.rfind(between, 0, end)) > 0:
        if call := read(text[:end]):
            return _arguments(call)
    return {}


def _arguments(call: calls.Call | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(call[1]) if call is not None else {}
    return found


def _begun(arguments: Mapping[str, Any]) -> str:
    """Whole arguments as the beginning of an object that more would have followed in."""
    return json.dumps(arguments, ensure_ascii=False, separators=(", ", ": "))[:-1] if arguments else ""
