"""The APIs as Protocols that serve halves implement, and the values that cross them; types only, no behaviour.

The values are Structs, not dataclasses: making the classes costs a cold start 2 ms instead of 12, and a Delta is made in
a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct, field

from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service


class Host(Protocol):
    """What a serve half may ask of the application that opens it."""

    def get(self, api: str, name: str) -> Any:
        """The opened service ``api/name``; raises ApiError 404 when the bundle has none."""
        ...

    def find(self, apis: Iterable[str], name: str) -> Service | None:
        """What the manifest says about the first service of that name among ``apis``, or None."""
        ...

    def state(self, name: str) -> Path:
        """The folder ``name`` (made when it is missing) for what has to outlive this process, on a disk of this machine.

        ApiError 503 says how to name a place when the server has none that it may write to.
        """
        ...


class Telling(Host, Protocol):
    """The Host of a service that is opened when the server starts."""

    def tell(self, what: str) -> None:
        """Say in a few words what takes so long; /v1/health shows it."""
        ...


class Behind(Host, Protocol):
    """The Host of a service that is itself a shield."""

    def bare(self, api: str, name: str) -> Any:
        """As ``get``, without the shields before the service: a shield that asks a model would ask itself."""
        ...


class Placement(Struct, frozen=True):
    """Where a model runs, as its session says: ``provider`` is the one that took it, ``wanted`` the one that should have.

    ``operators`` counts the operators of the graph by provider, where that is known; ``why`` says why it is not the wanted
    one. A port that has a ``placement`` shows it in /v1/health.
    """

    provider: str
    wanted: str
    operators: Mapping[str, int] = field(default_factory=dict)
    why: str = ""


Open = Callable[[Service, Path, Host], Any]
"""The entry of a serve half: ``(service, root of the bundle, host) -> port``. May be slow; is called once, on first use."""


class Usage(Struct, frozen=True):
    """Token counts of one generation; ``cached`` prompt tokens were not computed again."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(self.prompt + other.prompt, self.completion + other.completion, self.cached + other.cached)


class TokenLogprob(Struct, frozen=True):
    """One token with its log probability (natural log) under the model's unmodified distribution at temperature 1."""

    token: str
    logprob: float
    raw: bytes
    top: tuple[TokenLogprob, ...] = ()


class ToolCall(Struct, frozen=True):
    """A call. ``arguments`` is JSON text, as on the wire; of a call that the limit of tokens cut, the beginning of one."""

    id: str
    name: str
    arguments: str

    @property
    def whole(self) -> bool:
        """Whether the arguments are all there."""
        try:
            msgspec.json.decode(self.arguments)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class Sampling(Struct, frozen=True):
    """How to choose tokens; names and ranges are OpenAI's. ``max_tokens`` None means up to the context's end."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    max_tokens: int | None = None
    n: int = 1
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


class Chat(Struct, frozen=True):
    """A chat request after validation. ``messages`` and ``tools`` are OpenAI's JSON objects, already checked.

    ``tool_choice`` is "auto", "none", "required" or a function's name. ``extra`` holds provider fields to pass through
    (``chat_template_kwargs`` for a local model; anything for a remote one).
    """

    messages: Sequence[Mapping[str, Any]]
    sampling: Sampling = field(default_factory=Sampling)
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = True
    """False tells a provider that the caller reads everything before it answers: one delta per choice will do."""


class Completion(Struct, frozen=True):
    """A legacy completion: the prompt as text or token ids. ``echo`` returns the prompt (and its logprobs) first."""

    prompt: str | Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    echo: bool = False
    stream: bool = True
    """As in Chat."""


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Annotation(Struct, frozen=True):
    """A citation of a file. ``start``/``end`` are character offsets in the document, lines count from 1.

    ``index`` is the character offset in the answer where the citation stands.
    """

    file_id: str
    filename: str
    store: str
    start: int = 0
    end: int = 0
    line_start: int = 0
    line_end: int = 0
    heading: str = ""
    quote: str = ""
    index: int = 0


class Delta(Struct, frozen=True):
    """A piece of one choice, in order. The last of each choice carries ``finish``; the last of all carries ``usage``.

    ``stop`` is the stop text of the request that ended the choice, where the provider knows it.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    finish: FinishReason | None = None
    usage: Usage | None = None
    refusal: str = ""
    stop: str = ""


class Inference(Protocol):
    """A language model. Errors are ApiError (400 context length, 429 queue full, 502/503 upstream)."""

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """Generate; closing the iterator stops the work."""
        ...

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """Continue a prompt without a chat template."""
        ...


class Counter(Protocol):
    """What a language model may have besides: it says how long a prompt is without answering it."""

    def count(self, chat: Chat, context: Context) -> int:
        """The tokens that ``chat`` would reach the model as. ApiError 400 where a provider cannot say."""
        ...


class Embedded(Struct, frozen=True):
    """One float32 little-endian vector (as bytes) for each input, and the number of tokens read."""

    vectors: tuple[bytes, ...]
    tokens: int


class Embeddings(Protocol):
    """A text encoder."""

    def embed(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], context: Context, dimensions: int | None = None
    ) -> Embedded:
        """Unit-length vectors; ApiError 400 for an empty or too long input or unsupported ``dimensions``."""
        ...


class Scores(Struct, frozen=True):
    """One score in 0..1 for each passage, higher is better, and the number of tokens read."""

    values: tuple[float, ...]
    tokens: int


class Reranker(Protocol):
    """A model that reads a query together with a passage and says how well they fit."""

    def score(self, query: str, passages: Sequence[str], context: Context) -> Scores:
        """Scores in the order of ``passages``, which are cut to what the model reads; the query never is.

        ApiError 400 for an empty query, and with code ``context_length_exceeded`` for one that is too long.
        """
        ...


SearchMode = Literal["vector", "keyword", "hybrid"]

Attribute = str | int | float | bool
"""The value of a document's attribute: what searches can filter by."""


class Passage(Struct, frozen=True):
    """One passage of a document: ``text`` is ``document.text[start:end]``; lines count from 1.

    ``heading`` is the path of titles above it, outermost first; ``prefix`` is the part of that path which is embedded
    before the text.
    """

    chunk_id: str
    text: str
    heading: str
    prefix: str
    start: int
    end: int
    line_start: int
    line_end: int

    @property
    def embedded(self) -> str:
        """What the embedding model reads: the headings, then the text."""
        return f"{self.prefix}\n{self.text}" if self.prefix else self.text


def passage_id(path: str, start: int, end: int, text: str) -> str:
    """The ``chunk_id`` of a passage of a file: the same in every build, and no other passage's."""
    from hashlib import sha256

    digest = sha256(f"{path}\0{start}\0{end}\0{text}".encode())
    return f"chunk-{digest.hexdigest()[:24]}"


class Hit(Struct, frozen=True):
    """One found passage. ``score`` is in 0..1, higher is better; offsets as in Annotation."""

    chunk_id: str
    file_id: str
    filename: str
    text: str
    score: float
    heading: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    start: int = 0
    end: int = 0
    line_start: int = 0
    line_end: int = 0


class Fusion(Struct, frozen=True):
    """How a hybrid search joins what it found by meaning and by words; the weights are not negative and not both 0.

    ``rrf`` adds up places, 1 / (60 + place) (reciprocal rank fusion), and asks nothing of the scores. ``weighted`` adds up
    the scores themselves (0..1; 0 where a ranking does not have the passage), which keeps how much better one is than the
    next: a convex combination (Bruch, Gai and Ingber, TOIS 2023).
    """

    ranker: Literal["rrf", "weighted"] = "rrf"
    vector: float = 1.0
    keyword: float = 1.0


class StoreInfo(Struct, frozen=True):
    """What is in a vector store."""

    files: int
    chunks: int
    bytes: int
    dimensions: int
    embedding: str


class VectorIO(Protocol):
    """A vector store."""

    def info(self) -> StoreInfo:
        """Counts, for /v1/vector_stores."""
        ...

    def search(
        self,
        query: str,
        context: Context,
        *,
        limit: int = 10,
        mode: SearchMode | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float = 0.0,
        fusion: Fusion | None = None,
    ) -> list[Hit]:
        """The best passages, best first. ``mode`` None takes the store's own; ``filters`` is OpenAI's filter object.

        ``fusion`` is for a hybrid search; None takes the store's own.
        """
        ...
