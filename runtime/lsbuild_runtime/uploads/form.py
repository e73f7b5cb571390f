"""multipart/form-data -> one file and its fields; every fault is an ApiError 4xx that names the field."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from msgspec import Struct

from lsbuild_runtime.database import built_without_state
from lsbuild_runtime.http import ApiError, Request

if TYPE_CHECKING:
    from multipart import PushMultipartParser

MOST_PARTS = 8
LONGEST_FIELD = 1024
LONGEST_NAME = 512
_SLICE = 1 << 16


class Form(Struct, frozen=True):
    """The part named ``file`` with its filename, and all other parts as text."""

    filename: str
    content: bytes
    fields: dict[str, str]


class _Part:
    def __init__(self, name: str, filename: str | None) -> None:
        self.name = name
        self.filename = filename
        self.data: list[bytes] = []
        self.size = 0


def read_form(request: Request) -> Form:
    """The form in the body of ``request``: 415 for another content type, 400 for what is broken, missing or double."""
    try:
        import multipart
    except ImportError:
        raise built_without_state() from None

    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data":
        raise ApiError(415, f"content-type is {kind[:100]!r}; send multipart/form-data", code="unsupported_media_type")
    boundary = options.get("boundary", "")
    if not boundary or not boundary.isascii():
        raise _broken("its content-type names no boundary")
    try:
        parser = multipart.PushMultipartParser(boundary, max_segment_count=MOST_PARTS, strict=True)
        with parser:
            parts = _parts(parser, request.body)
    except multipart.ParserLimitReached as error:
        raise _broken(f"{error}; a form has at most {MOST_PARTS} parts with short headers") from None
    except (multipart.MultipartError, UnicodeError, ValueError) as error:
        raise _broken(str(error)) from None
    return _form(parts)


def _parts(parser: PushMultipartParser, body: bytes) -> list[_Part]:
    from multipart import MultipartSegment

    parts: list[_Part] = []
    for start in range(0, len(body), _SLICE):
        for event in parser.parse(body[start : start + _SLICE]):
            if isinstance(event, MultipartSegment):
                parts.append(_Part(event.name or "", event.filename))
            elif event:
                _take(parts[-1], bytes(event))
    return parts


def _take(part: _Part, data: bytes) -> None:
    part.size += len(data)
    if part.name != "file" and part.size > LONGEST_FIELD:
        raise _refused(part.name, f"longer than {LONGEST_FIELD} bytes")
    part.data.append(data)


def _form(parts: list[_Part]) -> Form:
    seen: dict[str, _Part] = {}
    for part in parts:
        if part.name in seen:
            raise _refused(part.name, "given twice; one file and each field once")
        seen[part.name] = part
    file = seen.pop("file", None)
    if file is None:
        raise _refused("file", "this parameter is required, as a part with a filename", "missing_required_parameter")
    if not file.filename:
        raise _refused("file", "the part has no filename; it says of what kind the file is")
    fields = {}
    for name, part in seen.items():
        try:
            fields[name] = b"".join(part.data).decode("utf-8")
        except UnicodeDecodeError:
            raise _refused(name, "not UTF-8 text") from None
    return Form(cleaned(file.filename), b"".join(file.data), fields)


def cleaned(filename: str) -> str:
    """The name as it is kept and shown: control characters become "_". It is never used as a path."""
    name = "".join("_" if unicodedata.category(one) in ("Cc", "Cs") else one for one in filename).strip()
    if not name or len(name) > LONGEST_NAME:
        raise _refused("file", f"the filename has {len(name)} characters; 1 to {LONGEST_NAME} can be kept")
    return name


def _refused(param: str, why: str, code: str = "invalid_value") -> ApiError:
    param = param[:100]
    return ApiError(400, f"{param}: {why}", param=param, code=code)


def _broken(why: str) -> ApiError:
    return ApiError(400, f"the body is not a whole multipart form: {why[:200]}", code="invalid_form")
