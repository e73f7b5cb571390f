"""The types of a spec for serving and judging the whole: the server, its limits and state, evals and budgets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lsbuild.spec.section import Section
from lsbuild.spec.units import Bytes, Seconds


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

    @property
    def limits(self) -> dict[str, Any]:
        """What every keeper holds to, as the runtime gets it: days, bytes, responses, seconds."""
        return {"days": self.days, "bytes": self.size, "queue": self.queue, "deadline": self.deadline}


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
    """Limits: a build fails that exceeds one."""

    artifact: Bytes | None = None
    """Largest artifact, in all its files."""
    part_model: Bytes | None = None
    """Largest sum of model files."""
    packed: Bytes | None = None
    """Largest packed form that is sent to one machine: an image, a package, the zip files of a function."""
    cold_start: Seconds | None = Field(default=None, gt=0)
    """Most processor time of a server from its start to its first embedding and search."""
