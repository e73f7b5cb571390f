"""The arguments that a model wrote for a tool, checked against the tool's JSON Schema (2020-12) before anything is called.

What is wrong is told in sentences that a model can act on. The check itself is bounded: neither the arguments nor a
schema that somebody else wrote can make it long. jsonschema is imported by the first check; it costs 0.3 CPU seconds.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

LONGEST = 128 << 10
"""Characters of the arguments of one call."""
DEEPEST = 32
"""Lists and objects inside each other."""
MOST_WORK = 20_000
"""Keywords of a schema that are looked at, each weighed by the length of what it looks at; then the check is given up."""

_TOLD = 4
_QUOTED = 80
_UNBOUNDED = re.compile(r"(?<!\\)(?:[*+]|\{\d*,\}|\{\d+,\d+\})")
_AMBIGUOUS = re.compile(r"\)[*+{]|\(\?[^:]|\\[1-9kpPuU]")


class _TooMuch(Exception):
    """The work of this check is used up."""


class _Left(threading.local):
    """What this thread's check may still spend."""

    work = 0

    def spend(self, instance: object) -> None:
        self.work -= 1 + (len(instance) // 16 if isinstance(instance, str | list | dict) else 0)
        if self.work < 0:
            raise _TooMuch


_LEFT = _Left()


def validated(text: str, schema: Mapping[str, Any]) -> dict[str, Any] | str:
    """The arguments in ``text``, or what is wrong with them: sentences for the model that wrote them.

    No text at all stands for no arguments. Duplicate names, NaN and Infinity, numbers that no float holds and halves of
    surrogate pairs are faults: two readers could read them differently.
    """
    found = parsed(text)
    return found if isinstance(found, str) else fault(found, schema) or found


def parsed(text: str) -> dict[str, Any] | str:
    """The JSON object in ``text`` as it is, or what is wrong with it."""
    import json  # with jsonschema, and like it only when a tool is called

    if len(text) > LONGEST:
        return f"The arguments have {len(text)} characters, at most {LONGEST} are taken. Send less."
    if not text.strip():
        return {}
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except RecursionError:
        return _too_deep()
    except ValueError as error:
        return f"The arguments are not valid JSON: {str(error)[:200]}. Send one JSON object."
    if not isinstance(value, dict):
        return f"The arguments are {_kind(value)}. Send one JSON object with the parameters by name."
    return _shape_fault(value) or value


def fault(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What does not fit ``schema``, at most the first few faults; "" when all does."""
    _LEFT.work = MOST_WORK
    try:
        errors = list(islice(_validator()(schema).iter_errors(arguments), _TOLD))
    except _TooMuch:
        return "The arguments are too large to be checked against the tool's schema. Send less."
    except RecursionError:
        return _too_deep()
    except Exception as error:  # a schema from elsewhere can be broken in every way that Python knows
        return f"The tool cannot be called: its schema is broken ({type(error).__name__}: {str(error)[:200]})."
    if not errors:
        return ""
    return "The arguments do not fit the tool: " + "; ".join(_sentence(error) for error in errors) + "."


def schema_fault(schema: Mapping[str, Any]) -> str:
    """Why ``schema`` cannot be the parameters of a tool, or ""."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if schema.get("type") != "object":
        return 'it must say "type": "object"'
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"{error.json_path}: {error.message[:200]}"
    except RecursionError:
        return "it is nested too deeply"
    return ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _shape_fault(value: Any) -> str:
    """Too deep, or text that has no UTF-8 form; goes level by level, not by recursion."""
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(each, str) and not _encodable(each) for each in level):
            return "The arguments hold half of a surrogate pair, which is no text. Send the whole character."
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += [*each.keys(), *each.values()]
            elif isinstance(each, list):
                inner += each
        if not inner:
            return ""
        level = inner
    return _too_deep()


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _too_deep() -> str:
    return f"The arguments are nested too deeply; at most {DEEPEST} levels are taken."


@lru_cache(maxsize=1)
def _validator() -> Any:
    """jsonschema's validator of 2020-12 with its work counted, and with patterns that run in linear time."""
    from jsonschema import Draft202012Validator, validators

    own = {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique}
    keywords = {**Draft202012Validator.VALIDATORS, **own}
    return validators.extend(Draft202012Validator, {name: _counted(check) for name, check in keywords.items()})


Check = Callable[[Any, Any, Any, Mapping[str, Any]], Iterator[Any] | None]


def _counted(check: Check) -> Check:
    def counted(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        _LEFT.spend(instance)
        yield from check(validator, value, instance, schema) or ()

    return counted


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ARG001
    from jsonschema import ValidationError

    if not isinstance(instance, str):
        return
    fits = matcher(str(pattern))
    if fits is None:
        yield ValidationError(f"cannot be checked here: the pattern {str(pattern)[:_QUOTED]!r} is not supported")
    elif not fits(instance):
        yield ValidationError(f"{_quoted(instance)} does not match the pattern {str(pattern)[:_QUOTED]!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ARG001
    from jsonschema import ValidationError

    if not isinstance(instance, dict):
        return
    for pattern, part in patterns.items():
        fits = matcher(pattern)
        if fits is None:
            yield ValidationError(f"cannot be checked here: the pattern {pattern[:_QUOTED]!r} is not supported")
            return
        for name, value in instance.items():
            if fits(name):
                yield from validator.descend(value, part, path=name, schema_path=pattern)


def _unique(validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ARG001
    """By sorted text, since comparing each with each is quadratic; 1 and 1.0 are told apart, which JSON Schema does not."""
    import json

    from jsonschema import ValidationError

    if wanted and isinstance(instance, list):
        texts = [json.dumps(each, sort_keys=True) for each in instance]
        if len(set(texts)) != len(texts):
            yield ValidationError("has an item twice")


@lru_cache(maxsize=64)
def matcher(pattern: str) -> Callable[[str], object] | None:
    """Whether a text holds ``pattern``, in time that grows with the text's length; None when that cannot be had.

    RE2 where it ships. Without it Python's ``re`` for patterns with one repetition at most, none of a group.
    """
    try:
        import re2
    except ImportError:
        simple = len(_UNBOUNDED.findall(pattern)) <= 1 and not _AMBIGUOUS.search(pattern) and "|" not in pattern
        if not simple:
            return None
        try:
            return re.compile(pattern).search
        except re.error:
            return None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        compiled = re2.compile(pattern, options)
    except re2.error:
        return None
    search: Callable[[str], object] = compiled.search
    return search


def _sentence(error: Any) -> str:
    """One fault with its place: what was expected, what came."""
    if error.validator in ("anyOf", "oneOf") and error.context:
        return _of_several(error)
    at = _place(error.absolute_path)
    what = _expected(error)
    return f"{at} {what}"


def _of_several(error: Any) -> str:
    """The branch that comes nearest: one that fits in type, else every branch's type."""
    branches: dict[Any, list[Any]] = {}
    for each in error.context:
        branches.setdefault(each.schema_path[0] if each.schema_path else 0, []).append(each)
    inner = [found for found in branches.values() if not any(e.validator == "type" and not e.path for e in found)]
    if len(inner) == 1:
        return "; ".join(_sentence(each) for each in inner[0][:_TOLD])
    wanted = [_expected(found[0]) for found in branches.values()]
    return f"{_place(error.absolute_path)} fits none of its forms: " + ", or ".join(dict.fromkeys(wanted))


def _expected(error: Any) -> str:
    value, instance = error.validator_value, error.instance
    match error.validator:
        case "required":
            missing = [name for name in value if isinstance(instance, dict) and name not in instance]
            return "lacks " + ", ".join(f"'{name}'" for name in missing[:_TOLD])
        case "additionalProperties" | "unevaluatedProperties" if value is False and isinstance(instance, dict):
            known = error.schema.get("properties", {})
            other = [name for name in instance if name not in known]
            return (
                f"has no '{str(other[0])[:_QUOTED]}'; it has {', '.join(known) or 'no parameters'}"
                if other
                else "has more"
            )
        case "type":
            kinds = value if isinstance(value, str) else " or ".join(map(str, value))
            return f"must be {kinds}, it is {_kind(instance)} {_quoted(instance)}".rstrip()
        case "enum":
            return f"must be one of {', '.join(_quoted(each) for each in list(value)[:20])}; it is {_quoted(instance)}"
        case "const":
            return f"must be {_quoted(value)}; it is {_quoted(instance)}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" | "multipleOf":
            return f"must be {_BOUNDS[error.validator]} {value}; it is {_quoted(instance)}"
        case "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties":
            return f"must have {_BOUNDS[error.validator[:3]]} {value} {_UNITS[error.validator[3:]]}, it has {len(instance)}"
    return str(error.message)[:200]


_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
    "min": "at least",
    "max": "at most",
}
_UNITS = {"Length": "characters", "Items": "items", "Properties": "members"}


def _place(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return f"'{text[:200]}'" if text else "the object"


def _quoted(value: Any) -> str:
    import json

    if isinstance(value, dict | list):
        return ""
    text = json.dumps(value if not isinstance(value, str) else value[:_QUOTED], ensure_ascii=False)
    return text[: _QUOTED + 2]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "a string", int: "an integer", float: "a number", list: "an array", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
