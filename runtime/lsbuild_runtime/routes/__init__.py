"""All routes of the API, one line each; the handlers are in the module named after their API.

Routes that write, and those around them, are named by text: their modules are imported by the first request for one, so
that an artifact without uploads does not pay for them at start.
"""

from __future__ import annotations

from lsbuild_runtime.routes import chat, completions, embeddings, inspect, models, providers, search
from lsbuild_runtime.routes.chat_answer import ChatCompletion
from lsbuild_runtime.routing import Route

GET, POST, DELETE = "GET", "POST", "DELETE"
_CHAT, _TEXT, _EMBED = chat.ChatRequest, completions.CompletionRequest, embeddings.EmbeddingsRequest
_LIST = ("limit", "order", "after", "before")
_FILE_LIST = ("limit", "order", "after", "purpose")
_PART_LIST = (*_LIST, "filter")
_STORES, _STORE = "/v1/vector_stores", "/v1/vector_stores/{id}"
_FILES, _FILE = "/v1/vector_stores/{id}/files", "/v1/vector_stores/{id}/files/{file_id}"
_BATCHES, _BATCH = "/v1/vector_stores/{id}/file_batches", "/v1/vector_stores/{id}/file_batches/{batch_id}"


def _stores(
    method: str,
    path: str,
    summary: str,
    module: str,
    handler: str,
    takes: str = "",
    gives: str = "",
    query: tuple[str, ...] = (),
) -> Route:
    """A route of API vector_io whose handler and Structs are in ``module``."""
    return Route(
        method,
        path,
        "vector_io",
        summary,
        f"{module}:{handler}",
        takes=f"{module}:{takes}" if takes else None,
        gives=gives if ":" in gives else f"{module}:{gives}" if gives else None,
        query=query,
    )


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
    Route(
        POST,
        "/v1/messages",
        "inference",
        "Chat, in Anthropic's form",
        "anthropic:create",
        "anthropic:MessageRequest",
        "anthropic_answer:Message",
        ("beta",),
        streams=True,
        errors="anthropic_answer:ERRORS",
    ),
    Route(
        POST,
        "/v1/messages/count_tokens",
        "inference",
        "Count a prompt, in Anthropic's form",
        "anthropic:count_tokens",
        "anthropic:Prompt",
        "anthropic_answer:TokenCount",
        ("beta",),
        errors="anthropic_answer:ERRORS",
    ),
    Route(
        POST,
        "/v1alpha/interactions",
        "inference",
        "Chat, in Google's form",
        "interactions:create",
        "interactions:InteractionRequest",
        "interactions_answer:Interaction",
        streams=True,
        errors="interactions_answer:ERRORS",
    ),
    Route(POST, "/v1/embeddings", "embeddings", "Embed texts", embeddings.create, _EMBED, embeddings.EmbeddingList),
    Route(POST, "/v1/rerank", "rerank", "Rank documents", "rerank:create", "rerank:RerankRequest", "rerank:RerankBody"),
    Route(
        POST,
        "/v1alpha/inference/rerank",
        "rerank",
        "Rank items",
        "rerank:items",
        "rerank:ItemsRequest",
        "rerank:RerankResponse",
    ),
    Route(
        POST,
        "/v1/moderations",
        "safety",
        "Moderate texts",
        "moderations:create",
        "moderations:ModerationRequest",
        "moderations:ModerationObject",
    ),
    Route(GET, "/v1/shields", "shields", "List shields", "shields:listing", None, "shields:ShieldList"),
    Route(GET, "/v1/shields/{id}", "shields", "Get a shield", "shields:retrieve", None, "shields:ShieldObject"),
    Route(
        POST,
        "/v1/safety/run-shield",
        "safety",
        "Run a shield",
        "shields:run",
        "shields:RunShieldRequest",
        "shields:RunShieldResponse",
    ),
    Route(
        POST, f"{_STORE}/search", "vector_io", "Search a store", search.search, search.SearchRequest, search.SearchPage
    ),
    _stores(GET, _STORES, "List stores", "vector_stores", "listing", "", "VectorStoreList", _LIST),
    _stores(POST, _STORES, "Create a store", "vector_stores", "create", "CreateRequest", "VectorStoreObject"),
    _stores(GET, _STORE, "Get a store", "vector_stores", "retrieve", "", "VectorStoreObject"),
    _stores(POST, _STORE, "Change a store", "vector_stores", "update", "UpdateRequest", "VectorStoreObject"),
    _stores(DELETE, _STORE, "Delete a store", "vector_stores", "delete", "", "Deleted"),
    _stores(GET, _FILES, "List a store's files", "vector_files", "listing", "", "VectorStoreFileList", _PART_LIST),
    _stores(POST, _FILES, "Put a file into a store", "vector_files", "attach", "AttachRequest", "VectorStoreFile"),
    _stores(GET, _FILE, "Get a store's file", "vector_files", "retrieve", "", "VectorStoreFile"),
    _stores(POST, _FILE, "Change attributes", "vector_files", "update", "AttributesRequest", "VectorStoreFile"),
    _stores(DELETE, _FILE, "Take a file out of a store", "vector_files", "delete", "", "vector_stores:Deleted"),
    _stores(GET, f"{_FILE}/content", "Get a file's passages", "vector_files", "content", "", "FileContent"),
    _stores(POST, _BATCHES, "Put files into a store", "file_batches", "create", "BatchRequest", "VectorStoreFileBatch"),
    _stores(GET, _BATCH, "Get a batch", "file_batches", "retrieve", "", "VectorStoreFileBatch"),
    _stores(POST, f"{_BATCH}/cancel", "Cancel a batch", "file_batches", "cancel", "", "VectorStoreFileBatch"),
    _stores(
        GET,
        f"{_BATCH}/files",
        "List a batch",
        "file_batches",
        "listing",
        "",
        "vector_files:VectorStoreFileList",
        _PART_LIST,
    ),
    Route(
        POST,
        "/v1/vector-io/insert",
        "vector_io",
        "Insert chunks",
        "vector_io:insert",
        "vector_io:InsertRequest",
        large=True,
    ),
    _stores(POST, "/v1/vector-io/query", "Query chunks", "vector_io", "query", "QueryRequest", "QueryAnswer"),
    Route(
        POST,
        "/v1/files",
        "files",
        "Upload a file",
        "files:create",
        "files:UploadForm",
        "files:FileObject",
        large=True,
        form=True,
    ),
    Route(GET, "/v1/files", "files", "List files", "files:listing", None, "files:FileList", _FILE_LIST),
    Route(GET, "/v1/files/{id}", "files", "Get a file", "files:retrieve", None, "files:FileObject"),
    Route(DELETE, "/v1/files/{id}", "files", "Delete a file", "files:delete", None, "files:FileDeleted"),
    Route(GET, "/v1/files/{id}/content", "files", "Get a file's bytes", "files:content"),
)
