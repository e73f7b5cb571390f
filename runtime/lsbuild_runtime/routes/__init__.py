"""All routes of the API, one line each; the handlers are in the module named after their API."""

from __future__ import annotations

from lsbuild_runtime.routes import chat, completions, embeddings, inspect, models, providers, vector_stores
from lsbuild_runtime.routes.chat_answer import ChatCompletion
from lsbuild_runtime.routing import Route

GET, POST = "GET", "POST"
_CHAT, _TEXT, _EMBED = chat.ChatRequest, completions.CompletionRequest, embeddings.EmbeddingsRequest
_SEARCH, _PAGE = vector_stores.SearchRequest, vector_stores.SearchPage
_STORE, _STORES = vector_stores.VectorStoreObject, vector_stores.VectorStoreList
_LIST_QUERY = ("limit", "order", "after", "before")

ROUTES = (
    Route(GET, "/", "inspect", "What this is", inspect.home, gives=inspect.Welcome, instant=True),
    Route(GET, "/v1/health", "inspect", "Liveness", inspect.health, gives=inspect.Health, instant=True),
    Route(GET, "/v1/ready", "inspect", "Readiness", inspect.ready, gives=inspect.Health, instant=True),
    Route(GET, "/v1/version", "inspect", "Version", inspect.version, gives=inspect.Version, instant=True),
    Route(
        GET, "/v1/inspect/routes", "inspect", "Routes", inspect.routes, None, inspect.RouteList, ("api_filter",), True
    ),
    Route(GET, "/v1/openapi.json", "inspect", "This description", inspect.openapi),
    Route(GET, "/v1/providers", "providers", "List providers", providers.listing, gives=providers.ProviderList),
    Route(GET, "/v1/providers/{id}", "providers", "Get a provider", providers.retrieve, gives=providers.ProviderInfo),
    Route(GET, "/v1/models", "models", "List models", models.listing, gives=models.ModelList, instant=True),
    Route(
        GET, "/v1/models/{id:path}", "models", "Get a model", models.retrieve, gives=models.ModelObject, instant=True
    ),
    Route(POST, "/v1/chat/completions", "inference", "Chat", chat.create, _CHAT, ChatCompletion, streams=True),
    Route(
        POST,
        "/v1/completions",
        "inference",
        "Continue a text",
        completions.create,
        _TEXT,
        completions.CompletionBody,
        streams=True,
    ),
    Route(POST, "/v1/embeddings", "embeddings", "Embed texts", embeddings.create, _EMBED, embeddings.EmbeddingList),
    Route(GET, "/v1/vector_stores", "vector_io", "List stores", vector_stores.listing, None, _STORES, _LIST_QUERY),
    Route(POST, "/v1/vector_stores/{id}/search", "vector_io", "Search a store", vector_stores.search, _SEARCH, _PAGE),
    Route(GET, "/v1/vector_stores/{id}", "vector_io", "Get a store", vector_stores.retrieve, gives=_STORE),
)
