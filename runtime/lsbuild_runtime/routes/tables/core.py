"""What every artifact answers: inspection, models and inference. Inspection is there from the start, the rest when asked for."""

from __future__ import annotations

from msgspec.structs import replace

from lsbuild_runtime.routes import inspect
from lsbuild_runtime.routes.tables.rare import GET, POST, routes_of
from lsbuild_runtime.routing import Route

_providers = routes_of("providers", "providers")
_models = routes_of("models", "models")
_chat = routes_of("inference", "chat")
_completions = routes_of("inference", "completions")
_embeddings = routes_of("embeddings", "embeddings")
_rerank = routes_of("rerank", "rerank")
_FILTER = ("api_filter",)

INSPECTION = (
    Route(GET, "/", "inspect", "What this is", inspect.home, gives=inspect.Welcome, instant=True),
    Route(GET, "/v1/live", "inspect", "Liveness", inspect.live, gives=inspect.Health, instant=True),
    Route(GET, "/v1/health", "inspect", "Health", inspect.health, gives=inspect.Health, instant=True),
    Route(GET, "/v1/ready", "inspect", "Readiness", inspect.ready, gives=inspect.Health, instant=True),
    Route(GET, "/v1/version", "inspect", "Version", inspect.version, gives=inspect.Version, instant=True),
    Route(GET, "/v1/inspect/routes", "inspect", "Routes", inspect.routes, None, inspect.RouteList, _FILTER, True),
    Route(GET, "/v1/openapi.json", "inspect", "This description", inspect.openapi),
    _providers(GET, "/v1/providers", "List providers", "listing", "", "ProviderList"),
    _providers(GET, "/v1/providers/{id}", "Get a provider", "retrieve", "", "ProviderInfo"),
    _models(GET, "/v1/models", "List models", "listing", "", "ModelList", instant=True),
    _models(GET, "/v1/models/{id:path}", "Get a model", "retrieve", "", "ModelObject", instant=True),
)

ADMIN = tuple(
    replace(route, path=route.path.replace("/v1", "/v1alpha/admin", 1))
    for route in INSPECTION
    if route.path in ("/v1/health", "/v1/version", "/v1/inspect/routes", "/v1/providers", "/v1/providers/{id}")
)
"""Where the newest servers of Llama Stack have the same."""

INFERENCE = (
    _chat(POST, "/v1/chat/completions", "Chat", "create", "ChatRequest", "chat_answer:ChatCompletion", streams=True),
    _completions(
        POST, "/v1/completions", "Continue a text", "create", "CompletionRequest", "CompletionBody", streams=True
    ),
    _embeddings(POST, "/v1/embeddings", "Embed texts", "create", "EmbeddingsRequest", "EmbeddingList"),
    _rerank(POST, "/v1/rerank", "Rank documents", "create", "RerankRequest", "RerankBody"),
    _rerank(POST, "/v1alpha/inference/rerank", "Rank items", "items", "ItemsRequest", "RerankResponse"),
)
