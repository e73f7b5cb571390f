"""Errors in Anthropic's words, whole or as the last event of a stream."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from lsbuild_runtime.http import ApiError, Errors
from lsbuild_runtime.routes.wire import worded

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_NAMES = {
    ".function.parameters": ".input_schema",
    ".function": "",
    "response_format.json_schema": "output_config.format",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "stop": "stop_sequences",
}


class AnthropicErrorDetail(Struct):
    """What went wrong."""

    type: str
    message: str


class AnthropicError(Struct):
    """Anthropic's error. The message begins with the parameter at fault."""

    type: str
    error: AnthropicErrorDetail
    request_id: str


class AnthropicErrors(Errors):
    """Anthropic's shape; the type follows from the status."""

    shape = AnthropicError

    def body(self, error: ApiError, request_id: str) -> bytes:
        """``{"type": "error", "error": {"type", "message"}, "request_id"}``."""
        usual = "invalid_request_error" if error.status < 500 else "api_error"
        detail = AnthropicErrorDetail(_TYPES.get(error.status, usual), worded(error, _NAMES))
        return msgspec.json.encode(AnthropicError("error", detail, request_id))

    def event(self, error: ApiError, request_id: str) -> bytes:
        """``event: error``."""
        return b"event: error\ndata: " + self.body(error, request_id) + b"\n\n"

    def headers(self, request_id: str) -> dict[str, str]:
        """The id under the name that Anthropic's clients read."""
        return {"request-id": request_id}


ERRORS = AnthropicErrors()
