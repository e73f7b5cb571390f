"""Fields that several requests about documents share: attributes, metadata, texts that SQLite can keep."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lsbuild_runtime.routes.wire import refused

_Key = Annotated[str, Meta(min_length=1, max_length=64)]
_Words = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[_Key, _Words], Meta(max_length=16)]
"""OpenAI's 16 pairs of texts."""
Attributes = Annotated[dict[_Key, _Words | float | int | bool], Meta(max_length=16)]
"""OpenAI's 16 attributes of a file, to filter by."""


def checked_text(text: str, param: str) -> str:
    """``text``; ApiError 400 for half a surrogate pair, which JSON can carry and UTF-8 cannot."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise refused(param, "half of a surrogate pair is no character") from None
    return text


def checked_attributes(
    given: dict[str, str | float | int | bool] | None, param: str
) -> dict[str, str | float | int | bool]:
    """Attributes that a store can keep; ApiError 400 for numbers beyond 64 bits."""
    for key, value in (given or {}).items():
        checked_text(key, param)
        if isinstance(value, str):
            checked_text(value, f"{param}.{key}")
        elif abs(value) >= 2**63:
            raise refused(f"{param}.{key}", "numbers lie between -2**63 and 2**63")
    return given or {}
