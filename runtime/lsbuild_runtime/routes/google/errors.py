"""Errors in Google's words, whole or as the last event of a stream."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from lsbuild_runtime.http import ApiError, Errors
from lsbuild_runtime.routes.translation import named
from lsbuild_runtime.routes.wire import worded

_CODES = {401: "unauthenticated", 403: "permission_denied", 404: "not_found", 408: "deadline_exceeded",
          429: "resource_exhausted", 503: "unavailable"}  # fmt: skip
_NAMES = {
    ".function": "",
    "response_format.json_schema": "response_format",
    "messages": "input",
    "max_tokens": "generation_config.max_output_tokens",
    "reasoning_effort": "generation_config.thinking_level",
    "seed": "generation_config.seed",
    "stop": "generation_config.stop_sequences",
    "tool_choice": "generation_config.tool_choice",
}


class GoogleErrorDetail(Struct):
    """What went wrong."""

    code: str
    message: str


class GoogleError(Struct):
    """Google's error. The message begins with the parameter at fault."""

    error: GoogleErrorDetail


class ErrorEvent(Struct, tag_field="event_type", tag="error"):
    """The last event of a stream that failed."""

    error: GoogleErrorDetail


class InteractionErrors(Errors):
    """Google's shape; the code follows from the status."""

    shape = GoogleError

    def body(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - Google's bodies do not repeat it
        """``{"error": {"code", "message"}}``."""
        return msgspec.json.encode(GoogleError(_detail(error)))

    def event(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - nor do its events
        """``event: error``."""
        return named(ErrorEvent(_detail(error)))


def _detail(error: ApiError) -> GoogleErrorDetail:
    usual = "invalid_argument" if error.status < 500 else "internal"
    return GoogleErrorDetail(_CODES.get(error.status, usual), worded(error, _NAMES))


ERRORS = InteractionErrors()
