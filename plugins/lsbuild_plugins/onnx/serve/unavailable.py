"""The one error of a model that cannot be opened."""

from __future__ import annotations

from lsbuild_runtime.http import ApiError


def unavailable(name: str, what: str) -> ApiError:
    """The 503 for a model that cannot be opened or failed; ``what`` says why and what to do."""
    return ApiError(503, f"model {name!r}: {what}", type="server_error", code="model_unavailable")
