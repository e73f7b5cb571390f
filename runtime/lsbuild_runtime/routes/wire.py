"""From request bytes to a checked Struct; every fault is an ApiError 4xx that names the parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from lsbuild_runtime.http import ApiError, Request

T = TypeVar("T")

_FIELD = re.compile(r"^Object (contains unknown|missing required) field `(.*)`$", re.DOTALL)
_LONGEST = 200


def decode(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as the decoder's type; 415 for another content type, 400 for anything that is not that type."""
    data = json_body(request)
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def converted(value: Any, kind: type[T], place: str) -> T:
    """A part of a body, already decoded, as ``kind``; ApiError 400 that names what is wrong below ``place``."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        raise invalid(f"{what} - at `$.{place}{path}") from None


def json_body(request: Request) -> bytes:
    """The body; 415 unless it is declared as JSON (or not declared at all), 400 when it is empty."""
    declared = request.headers.get("content-type", "")
    if declared and declared.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, f"content-type is {declared[:100]!r}; send application/json", code="unsupported_media_type")
    if not request.body:
        raise ApiError(400, "the request body is empty; send a JSON object", code="invalid_json")
    return request.body


def malformed(error: Exception) -> ApiError:
    """The ApiError for bytes that are not JSON."""
    what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return ApiError(400, f"the body is not valid JSON: {what[:_LONGEST]}", code="invalid_json")


def invalid(text: str) -> ApiError:
    """The ApiError for one of msgspec's messages: ``Expected `int`, got `str` - at `$.max_tokens` ``."""
    what, _, place = text.rpartition(" - at ")
    if not what:
        what, place = text, ""
    path = place[place.find("$") + 1 :].rstrip("`").lstrip(".") if "$" in place else ""
    field = _FIELD.match(what)
    if field is None:
        return refused(path or None, what[0].lower() + what[1:])
    name = f"{path}.{field[2]}" if path else field[2]
    if field[1] == "missing required":
        return refused(name, "this parameter is required", "missing_required_parameter")
    return refused(name, "unknown or unsupported parameter", "unknown_parameter")


def refused(param: str | None, why: str, code: str = "invalid_value") -> ApiError:
    """A 400 for the value of ``param``; what the client sent is quoted at most in part."""
    param = param[:_LONGEST] if param else None
    message = f"{param}: {why[:_LONGEST]}" if param else why[:_LONGEST]
    return ApiError(400, message, param=param, code=code)


def worded(error: ApiError, names: Mapping[str, str]) -> str:
    """The message of ``error``, beginning with its parameter, for APIs whose errors have no place of their own for that.

    ``names`` are the API's own names of what a provider knows by OpenAI's, the longest first: ``stop`` is a whole name or
    the beginning of one, ``.function`` a part within one.
    """
    given = name = error.param or ""
    for old, new in names.items():
        if given == old or given.startswith((f"{old}.", f"{old}[")) or (old[0] == "." and old in given):
            name = given.replace(old, new, 1)
            break
    return f"{name}: {error.message.removeprefix(f'{given}: ')}" if name else error.message


def plain(value: Any) -> Any:
    """A Struct as the JSON object it came from (fields at their defaults left out)."""
    return msgspec.to_builtins(value)
