"""The Responses API: responses, what they are kept in, and conversations."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.rare import DELETE, GET, LIST, POST, routes_of

_responses = routes_of("responses", "responses", "responses:ERRORS")
_conversations = routes_of("conversations", "conversations")

_RESPONSE, _CONVERSATION = "/v1/responses/{id}", "/v1/conversations/{id}"
_ITEMS, _ITEM = f"{_CONVERSATION}/items", f"{_CONVERSATION}/items/{{item_id}}"
_INCLUDE = ("include", "include[]")
_RETRIEVE = (*_INCLUDE, "stream", "starting_after", "include_obfuscation")

RESPONSES = (
    _responses(POST, "/v1/responses", "Respond", "create", "ResponseRequest", "ResponseObject", streams=True),
    _responses(
        GET, "/v1/responses", "List responses", "listing", "", "ResponsePage", ("limit", "order", "after", "model")
    ),
    _responses(
        POST,
        "/v1/responses/compact",
        "Put a conversation into few words",
        "compact",
        "CompactRequest",
        "CompactedResponse",
    ),
    _responses(POST, "/v1/responses/input_tokens", "Count a prompt", "input_tokens", "CountRequest", "InputTokens"),
    _responses(GET, _RESPONSE, "Get a response", "retrieve", "", "ResponseObject", _RETRIEVE, streams=True),
    _responses(DELETE, _RESPONSE, "Delete a response", "delete", "", "ResponseDeleted"),
    _responses(POST, f"{_RESPONSE}/cancel", "Cancel a response", "cancel", "", "ResponseObject"),
    _responses(
        GET, f"{_RESPONSE}/input_items", "List a response's input", "input_items", "", "InputItems", (*LIST, *_INCLUDE)
    ),
)

CONVERSATIONS = (
    _conversations(POST, "/v1/conversations", "Create a conversation", "create", "CreateRequest", "ConversationObject"),
    _conversations(GET, _CONVERSATION, "Get a conversation", "retrieve", "", "ConversationObject"),
    _conversations(POST, _CONVERSATION, "Change a conversation", "update", "UpdateRequest", "ConversationObject"),
    _conversations(DELETE, _CONVERSATION, "Delete a conversation", "delete", "", "ConversationDeleted"),
    _conversations(POST, _ITEMS, "Add items", "add", "ItemsRequest", "ItemPage", _INCLUDE),
    _conversations(GET, _ITEMS, "List items", "items", "", "ItemPage", ("limit", "order", "after", *_INCLUDE)),
    _conversations(GET, _ITEM, "Get an item", "item", "", "", _INCLUDE),
    _conversations(DELETE, _ITEM, "Delete an item", "remove", "", "ConversationObject"),
)  # fmt: skip
