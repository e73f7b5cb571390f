"""What another server's refusal means: statuses, codes, types and well-known sentences as ApiErrors; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lsbuild_plugins.openai.serve.answers import Fault
from lsbuild_runtime.http import ApiError

_TOO_LONG = re.compile(
    r"maximum context length|context (?:size|window|length)|exceeds? the (?:available|model's) context|prompt is too long",
    re.IGNORECASE,
)
_CODES = {
    "context_window_exceeded": "context_length_exceeded",
    "exceed_context_size_error": "context_length_exceeded",
    "string_above_max_length": "context_length_exceeded",
    "content_policy_violation": "content_filter",
}
"""Names that servers use for what OpenAI calls otherwise."""
_BUSY, _LATE, _UNPAID = (503, 529), (408, 504), "insufficient_quota"
_LONGEST_WAIT = 5
"""Digits of a Retry-After that is believed."""


def refusal(name: str, status: int, fault: Fault, headers: Mapping[str, str]) -> ApiError:
    """The ApiError for a status other than 200 of the server behind model ``name``.

    The client's faults stay the client's, a rate limit is 429, all others are 502; the code says which kind it is.
    """
    said = fault.message[:500] or f"status {status}"
    after = retry_after(headers)
    if status in (400, 413, 422):
        return ApiError(400, f"the server behind model {name!r} says: {said}", param=fault.param, code=_code(fault))
    if status == 402 or _UNPAID in (fault.code, fault.type):
        return _broken(name, f"its account there is spent: {said}", _UNPAID)
    if status == 429:
        return ApiError(
            429,
            f"the server behind model {name!r} is busy: {said}",
            type="rate_limit_error",
            code="upstream_rate_limit",
            retry_after=1 if after is None else after,
        )
    if status in (401, 403):
        return _broken(name, f"it refused this server's credentials with status {status}; check api_key")
    if status in _BUSY:
        return _broken(name, f"status {status}: {said}", "upstream_overloaded", after)
    return _broken(name, f"status {status}: {said}", "upstream_timeout" if status in _LATE else "upstream_error")


def retry_after(headers: Mapping[str, str]) -> int | None:
    """The seconds of a Retry-After header; None without one, and for a date, which needs both clocks to agree."""
    value = headers.get("retry-after", "")
    return int(value) if value.isdigit() and len(value) <= _LONGEST_WAIT else None


def _code(fault: Fault) -> str | None:
    named = _CODES.get(str(fault.code)) or _CODES.get(fault.type or "")
    if named:
        return named
    if isinstance(fault.code, str) and fault.code not in ("", "400"):
        return fault.code
    if _TOO_LONG.search(fault.message):  # vLLM, SGLang and others have only the sentence
        return "context_length_exceeded"
    return None if fault.code is None else str(fault.code)


def _broken(name: str, what: str, code: str = "upstream_error", after: int | None = None) -> ApiError:
    message = f"the server behind model {name!r} failed: {what}"
    return ApiError(502, message, type="server_error", code=code, retry_after=after)
