"""The forms of other APIs: the same models and agents, asked as Anthropic's and Google's clients ask; prompts and batches."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.rare import DELETE, GET, POST, PUT, routes_of

_messages = routes_of("inference", "anthropic.messages", "anthropic.errors:ERRORS")
_interactions = routes_of("inference", "google.interactions", "google.errors:ERRORS")
_INTERACTION = "/v1alpha/interactions/{id}"
_prompts = routes_of("prompts", "prompts")
_batches = routes_of("batches", "batches")
_PROMPT = "/v1/prompts/{id}"

OTHERS = (
    _messages(
        POST,
        "/v1/messages",
        "Chat, in Anthropic's form",
        "create",
        "MessageRequest",
        "anthropic.answer:Message",
        ("beta",),
        streams=True,
    ),
    _messages(
        POST,
        "/v1/messages/count_tokens",
        "Count a prompt, in Anthropic's form",
        "count_tokens",
        "Prompt",
        "anthropic.answer:TokenCount",
        ("beta",),
    ),
    _interactions(
        POST,
        "/v1alpha/interactions",
        "Chat, in Google's form",
        "create",
        "InteractionRequest",
        "google.answer:Interaction",
        streams=True,
    ),
    _interactions(GET, _INTERACTION, "Get an interaction", "retrieve", "", "google.answer:Interaction", ("stream",)),
    _interactions(DELETE, _INTERACTION, "Forget an interaction", "delete"),
)

PROMPTS = (
    _prompts(GET, "/v1/prompts", "List prompts", "listing", "", "PromptList"),
    _prompts(POST, "/v1/prompts", "Create a prompt", "create", "CreatePrompt", "PromptObject"),
    _prompts(GET, _PROMPT, "Get a prompt", "retrieve", "", "PromptObject", ("version",)),
    _prompts(PUT, _PROMPT, "Add a version", "update", "UpdatePrompt", "PromptObject"),
    _prompts(DELETE, _PROMPT, "Delete a prompt", "delete", "", "PromptDeleted"),
    _prompts(GET, f"{_PROMPT}/versions", "List a prompt's versions", "versions", "", "PromptList"),
    _prompts(
        PUT, f"{_PROMPT}/set-default-version", "Choose the default", "set_default", "DefaultVersion", "PromptObject"
    ),
)

BATCHES = (
    _batches(POST, "/v1/batches", "Create a batch", "create", "BatchCreate", "BatchObject"),
    _batches(GET, "/v1/batches", "List batches", "listing", "", "BatchList", ("limit", "after")),
    _batches(GET, "/v1/batches/{id}", "Get a batch", "retrieve", "", "BatchObject"),
    _batches(POST, "/v1/batches/{id}/cancel", "Cancel a batch", "cancel", "", "BatchObject"),
)
