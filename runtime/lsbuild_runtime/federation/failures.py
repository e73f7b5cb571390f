"""What a failed attempt means to a route: one table from statuses, codes and types to failures; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from lsbuild_runtime.http import ApiError

Failure = Literal["error", "timeout", "overload", "context_length", "safety", "cost"]
"""``error``: it broke; ``timeout``: no word in time; ``overload``: it has no room now; ``context_length``: the prompt is too
long for it; ``safety``: it refuses the content; ``cost``: its money is spent."""
USUAL: tuple[Failure, ...] = ("error", "timeout", "overload")
"""What leads to a candidate that does not say it: failures that say nothing about the request itself."""
AGAIN: frozenset[Failure] = frozenset(("error", "overload"))
"""What may pass when the same candidate is asked again."""

ATTEMPT_TIMEOUT = "attempt_timeout"
"""The code of an attempt that got no first token in time."""

_CODES: Mapping[str, Failure] = {
    ATTEMPT_TIMEOUT: "timeout",
    "upstream_timeout": "timeout",
    "upstream_overloaded": "overload",
    "queue_full": "overload",
    "shutting_down": "overload",
    "context_length_exceeded": "context_length",
    "content_filter": "safety",
    "content_policy_violation": "safety",
    "insufficient_quota": "cost",
    "billing_hard_limit_reached": "cost",
}
_TYPES: Mapping[str, Failure] = {
    "content_filter": "safety",
    "insufficient_quota": "cost",
    "overloaded_error": "overload",
    "exceed_context_size_error": "context_length",
}
_STATUSES: Mapping[int, Failure] = {402: "cost", 404: "error", 429: "overload", 507: "overload", 529: "overload"}


def failure_of(error: Exception) -> Failure | None:
    """What ``error`` means; None for a fault of the request itself, which every candidate would refuse.

    The code decides, then the type, then the status. An exception that is no ApiError is a bug of a provider: an error.
    """
    if not isinstance(error, ApiError):
        return "error"
    known = _CODES.get(error.code or "") or _TYPES.get(error.type) or _STATUSES.get(error.status)
    return known or ("error" if error.status >= 500 else None)
