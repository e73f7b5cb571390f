"""What is known of Llama Stack's and OGX's providers, as tables; nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["mapped", "default", "attention", "none"]


@dataclass(frozen=True, slots=True)
class Remote:
    """An inference provider that speaks OpenAI's API.

    ``url`` counts when the file names none; ``suffix`` is what releases before 0.3 appended to ``url`` themselves;
    ``key`` is the variable that usually holds its key, or "".
    """

    url: str = ""
    key: str = ""
    suffix: str = "/v1"


REMOTES: Mapping[str, Remote] = {
    "remote::anthropic": Remote("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "remote::azure": Remote("", "AZURE_API_KEY", "/openai/v1"),
    "remote::cerebras": Remote("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "remote::databricks": Remote("", "DATABRICKS_TOKEN", "/serving-endpoints"),
    "remote::deepseek": Remote("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "remote::fireworks": Remote("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "/v1"),
    "remote::gemini": Remote("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "/openai"),
    "remote::groq": Remote("https://api.groq.com/openai/v1", "GROQ_API_KEY", "/openai/v1"),
    "remote::llama-cpp-server": Remote("http://localhost:8080/v1", "LLAMA_CPP_SERVER_API_KEY"),
    "remote::llama-openai-compat": Remote("https://api.llama.com/compat/v1", "LLAMA_API_KEY", "/compat/v1"),
    "remote::meta": Remote("https://api.meta.ai/v1", "META_API_KEY"),
    "remote::mistral": Remote("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "remote::nvidia": Remote("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    "remote::ollama": Remote("http://localhost:11434/v1", ""),
    "remote::openai": Remote("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "remote::passthrough": Remote("", "PASSTHROUGH_API_KEY"),
    "remote::runpod": Remote("", "RUNPOD_API_TOKEN"),
    "remote::sambanova": Remote("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "remote::text-embeddings-inference": Remote("http://localhost:8080/v1", ""),
    "remote::tgi": Remote("", "TGI_API_KEY"),
    "remote::together": Remote("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "remote::vllm": Remote("", "VLLM_API_TOKEN"),
}
URL_KEYS = ("base_url", "url", "openai_compat_api_base", "api_base")
SECRET_KEYS = ("api_key", "api_token", "access_token")
HANDLED_KEYS = ("allowed_models", "append_api_version")
"""Settings of a provider that are mapped without being copied."""
PREFIXED: Mapping[str, str] = {
    "remote::anthropic": "anthropic/",
    "remote::gemini": "gemini/",
    "remote::groq": "groq/",
    "remote::openai": "openai/",
    "remote::sambanova": "sambanova/",
}
"""What releases before 0.3 put before the names of models; the providers themselves do not know it."""
PLACEHOLDERS = frozenset(
    {"", "fake", "none", "null", "empty", "dummy", "no-key", "not-needed", "not-required", "token"}
)
"""Texts that stand where a key is not needed."""

INLINE = ("inline::sentence-transformers", "inline::transformers")
STORES = (
    "inline::sqlite-vec",
    "inline::sqlite_vec",
    "inline::faiss",
    "inline::milvus",
    "inline::milvus-lite",
    "inline::meta-reference",
    "inline::chroma",
    "inline::chromadb",
    "inline::qdrant",
)
"""Stores that live in the server's own files."""

REPOSITORIES: Mapping[str, str] = {
    "all-minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
    "nomic-embed-text": "nomic-ai/nomic-embed-text-v1.5",
    "nomic-embed-text-v1.5": "nomic-ai/nomic-embed-text-v1.5",
}
"""Embedding models by the short names that Ollama and older releases use."""

SHIELDS: Mapping[str, tuple[str, ...]] = {
    "inline::llama-guard": ("violence", "self-harm", "profanity"),
    "inline::prompt-guard": ("prompt-injection",),
}
"""Packs of rules for safety providers that judge by a model."""

APIS: Mapping[str, tuple[Status, str]] = {
    "agents": ("none", "no sessions and turns; an agent is an entry of `agents` with instructions and stores"),
    "batches": ("none", "not yet"),
    "datasetio": ("none", "question sets are files, see `evals`"),
    "eval": ("none", "not at run time; `evals` measure stores and agents at build"),
    "interactions": ("none", "not yet"),
    "messages": ("none", "not yet"),
    "post_training": ("none", "lsbuild compiles models, it does not train them"),
    "responses": ("none", "not yet as a provider; an agent is an entry of `agents`"),
    "scoring": ("none", "not at run time; `evals` have gates"),
    "skills": ("none", "instructions of an agent can be a file"),
    "telemetry": ("none", "there is no sink to configure"),
}
"""APIs without entries in a spec; an API that stands nowhere is unknown."""

RESOURCES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "benchmarks": (("benchmark_id",), "write the questions into a file and name it under `evals`"),
    "connectors": (("connector_id", "url"), "an MCP server is an entry of `tools`"),
    "datasets": (("dataset_id", "identifier"), "write the questions into a file and name it under `evals`"),
    "eval_tasks": (("eval_task_id",), "write the questions into a file and name it under `evals`"),
    "scoring_fns": (("scoring_fn_id", "identifier"), "`evals` have gates"),
    "tool_groups": (("toolgroup_id", "tool_group_id"), "a group of tools is an entry of `tools`"),
}
"""Resources without a counterpart: the keys that name one, and what to say."""

SETTINGS: Mapping[str, tuple[Status, str]] = {
    "conversations_store": ("default", "state lies in the artifact's state folder"),
    "external_apis_dir": ("none", "a provider of your own is a folder under `plugins`"),
    "external_providers_dir": ("none", "a provider of your own is a folder under `plugins`"),
    "inference_store": ("none", "chats are not stored"),
    "logging": ("none", "there are no log levels by category"),
    "metadata_store": ("default", "what is served is fixed at build"),
    "safety": ("none", "name the default shield under `server.shields`"),
    "storage": ("default", "state lies in the artifact's state folder; its data is not moved"),
    "telemetry": ("none", "there is no sink to configure"),
}
"""Top-level keys that become nothing, and why."""

SILENT = ("apis", "built_at", "container_image", "distro_name", "docker_image", "image_name", "providers", "version")
"""Keys that say what the file is, or that are read elsewhere."""
