"""The forms of other APIs: the same models and agents, asked as Anthropic's clients ask."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.rare import POST, routes_of

_messages = routes_of("inference", "anthropic", "anthropic_answer:ERRORS")

OTHERS = (
    _messages(
        POST,
        "/v1/messages",
        "Chat, in Anthropic's form",
        "create",
        "MessageRequest",
        "anthropic_answer:Message",
        ("beta",),
        streams=True,
    ),
    _messages(
        POST,
        "/v1/messages/count_tokens",
        "Count a prompt, in Anthropic's form",
        "count_tokens",
        "Prompt",
        "anthropic_answer:TokenCount",
        ("beta",),
    ),
)
