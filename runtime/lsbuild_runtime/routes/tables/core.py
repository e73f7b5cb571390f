"""What every artifact answers: inspection, models and inference. These modules are there from the start."""

from __future__ import annotations

from msgspec.structs import replace

from lsbuild_runtime.routes import chat, completions, embeddings, inspect, models, providers
from lsbuild_runtime.routes.chat_answer import ChatCompletion
from lsbuild_runtime.routes.tables.rare import GET, POST, routes_of
from lsbuild_runtime.routing import Route

_rerank = routes_of("rerank", "rerank")
_CHAT, _TEXT, _EMBED = chat.ChatRequest, completions.CompletionRequest, embeddings.EmbeddingsRequest
_MODEL = models.ModelObject
_FILTER = ("api_filter",)

INSPECTION = (
    Route(GET, "/", "inspect", "What this is", inspect.home, gives=inspect.Welcome, instant=True),
    Route(GET, "/v1/live", "inspect", "Liveness", inspect.live, gives=inspect.Health, instant=True),
    Route(GET, "/v1/health", "inspect", "Health", inspect.health, gives=inspect.Health, instant=True),
    Route(GET, "/v1/ready", "inspect", "Readiness", inspect.ready, gives=inspect.Health, instant=True),
    Route(GET, "/v1/version", "inspect", "Version", inspect.version, gives=inspect.Version, instant=True),
    Route(GET, "/v1/inspect/routes", "inspect", "Routes", inspect.routes, None, inspect.RouteList, _FILTER, True),
    Route(GET, "/v1/openapi.json", "inspect", "This description", inspect.openapi),
    Route(GET, "/v1/providers", "providers", "List providers", providers.listing, gives=providers.ProviderList),
    Route(GET, "/v1/providers/{id}", "providers", "Get a provider", providers.retrieve, gives=providers.ProviderInfo),
    Route(GET, "/v1/models", "models", "List models", models.listing, gives=models.ModelList, instant=True),
    Route(GET, "/v1/models/{id:path}", "models", "Get a model", models.retrieve, gives=_MODEL, instant=True),
)

ADMIN = tuple(
    replace(route, path=route.path.replace("/v1", "/v1alpha/admin", 1))
    for route in INSPECTION
    if route.path in ("/v1/health", "/v1/version", "/v1/inspect/routes", "/v1/providers", "/v1/providers/{id}")
)
"""Where the newest servers of Llama Stack have the same."""

INFERENCE = (
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
    _rerank(POST, "/v1/rerank", "Rank documents", "create", "RerankRequest", "RerankBody"),
    _rerank(POST, "/v1alpha/inference/rerank", "Rank items", "items", "ItemsRequest", "RerankResponse"),
)
