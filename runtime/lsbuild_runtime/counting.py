"""How long a prompt is, asked of a model that may not know; it asks and never guesses."""

from __future__ import annotations

from typing import Any

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Chat


def count(port: Any, chat: Chat, context: Context) -> int:
    """The tokens of ``chat`` by ``port`` (a ports.Counter, or no such thing); ApiError 400 when it cannot say."""
    counter = getattr(port, "count", None)
    if counter is None:
        raise cannot_count()
    found: int = counter(chat, context)
    return found


def cannot_count() -> ApiError:
    """The refusal of a model whose tokenizer is somewhere else."""
    why = "this model is asked over a network, where its tokenizer is, and cannot count a prompt without answering it"
    return ApiError(
        400, f"model: {why}; the usage of an answer has the count", param="model", code="unsupported_parameter"
    )
