"""What plugins see of the builder: what they are given, what they declare, and the steps that do the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lsbuild.errors import Problem
from lsbuild_runtime.manifest import Service

if TYPE_CHECKING:  # 0.3 CPU seconds that a step's process need not pay
    from pydantic import BaseModel


Json = Any
"""A JSON value: None, bool, int, float, str, or lists and string-keyed maps of these."""


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """Where an artifact runs. ``arch`` is x86_64 or aarch64, ``python`` "3.11", ``glibc`` the oldest it may meet.

    ``level`` is the x86-64 micro-architecture level (v1 to v4) that its processors have at least: v2 is of 2009, v3 has AVX2.
    """

    arch: str
    python: str
    glibc: str = "2.28"
    os: str = "linux"
    level: int = 2

    @property
    def tag(self) -> str:
        """A short name for keys and folders: ``linux-x86_64-cp311``."""
        return f"{self.os}-{self.arch}-cp{self.python.replace('.', '')}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file: ``path`` is its name within the source (posix), ``location`` where it lies now."""

    path: str
    location: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Source:
    """The files behind one URI of the spec, fetched and hashed before planning. ``revision`` pins a remote one."""

    uri: str
    files: tuple[SourceFile, ...]
    revision: str = ""

    def file(self, path: str) -> SourceFile | None:
        """The file of that name, or None."""
        return next((file for file in self.files if file.path == path), None)


class Memo(Protocol):
    """What a step remembers from one run to the next, when only a part of its sources changed.

    It never mixes runs with other options, code, tools or inputs. What a step makes of a value it got has to be what it
    would have made without it; nothing may depend on whether a value is there.
    """

    def get(self, key: str) -> bytes | None:
        """The value that was put under ``key``, or None."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Keep a value; it may be forgotten at any time."""
        ...


class NoMemo:
    """Remembers nothing."""

    def get(self, key: str) -> None:
        """None."""

    def put(self, key: str, data: bytes) -> None:
        """Forget it at once."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a running step is given. It writes files below ``out`` and returns measured facts (JSON) for the report.

    The fact ``warnings`` is a list of sentences for people: what they should know that stops no build.

    ``inputs`` maps the local names of ``Step.needs`` to the folders those steps wrote. ``progress(done, total, label)``
    may be called often; from ``done`` and ``total`` people are told a rate and the time left. ``memo`` is what the step
    put there in earlier runs. ``cache`` is a folder that outlives the step, for what is too large to remember and can be
    made again (an environment of a tool); None where there is none. No output may depend on what it holds.
    """

    out: Path
    options: Mapping[str, Json]
    sources: Mapping[str, Source]
    inputs: Mapping[str, Path]
    progress: Callable[[int, int, str], None]
    memo: Memo = field(default_factory=NoMemo)
    cache: Path | None = None


Run = Callable[[StepContext], Mapping[str, Json] | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of compile work with a content key.

    The key is made of ``run``, ``options``, the hashes of ``sources``, the keys of ``needs``, the source code of the
    packages in ``code`` (default: the package that holds ``run``) and the versions of the distributions in ``tools``.
    Anything else that a step reads is a bug: it would not be built again when that changes.
    """

    name: str
    run: str
    """``"module:function"`` of type Run; imported in the process that runs the step."""
    options: Mapping[str, Json] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    """Local name -> name of the step whose output is read."""
    forgets: tuple[str, ...] = ()
    """Names of options that nothing in ``StepContext.memo`` depends on: they may change and what is remembered stays."""
    tools: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    ship: str = ""
    """Folder of the bundle that the output becomes; "" keeps it out of the bundle."""
    part: str = "model"
    """Which layer of an artifact it belongs to: model | index | wheels | app."""
    spread: bool = False
    """Whether it may run on another machine (``--engine ray``): for long steps, of which a large build has many."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the spec that a plugin owns: ``models.chat`` has kind "models", name "chat"."""

    kind: str
    name: str
    provider: str
    spec: BaseModel
    root: Path
    """The folder of the spec file: relative paths start here."""

    @property
    def path(self) -> tuple[str, str]:
        """Where it stands in the spec."""
        return (self.kind, self.name)


@dataclass(frozen=True, slots=True)
class Apart:
    """Wheels that are resolved on their own and shipped whole, for code that runs in a process of its own.

    ``python`` is a specifier (``>=3.12``) that the platform's Python has to fit, "" for any.
    """

    requirements: tuple[str, ...]
    python: str = ""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a plugin makes of an item: steps to run, services to serve, and what has to travel with them.

    ``wheels`` are requirement strings; ``code`` are packages or modules copied into the bundle as source; ``apart`` are
    wheels by the folder of the bundle that they are unpacked in, which no import of the runtime looks into. ``functions`` is
    what models may call of it (name, description and parameters, as the runtime will tell them), as far as the build knows.

    ``only`` is for a distribution in ``wheels`` that is a library of many small modules: those (``stdnum.us.ssn``) that are
    used. Where everybody who needs it says so, they ship with what they import of it (`reach`), and nothing else of it.
    """

    steps: tuple[Step, ...] = ()
    services: tuple[Service, ...] = ()
    wheels: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    apart: Mapping[str, Apart] = field(default_factory=dict)
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    functions: tuple[Mapping[str, Json], ...] = ()
    prompted: Step | None = None
    """Of a language model that is built here: a step that looks at what it will be told with every request. Whoever tells
    it declares a copy of this step with a name, and with ``options`` of its own:

    ``messages`` (those that every request begins with), ``functions`` (as above), ``passages`` and ``answer`` (the most
    tokens that these take). What does not fit the model, or cannot be enforced on it, is a warning of the step.
    """


CPU_ONLY = ("cpu",)
"""``Given.providers`` of a target without an accelerator."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a plugin may use when it declares steps: its fetched sources and what other items compiled to."""

    sources: Mapping[str, Source]
    peers: Mapping[tuple[str, str], Compiled] = field(default_factory=dict)
    """(kind, name) -> Compiled, for every item this one refers to (``Plugin.refers``) and all that those refer to."""
    providers: tuple[str, ...] = CPU_ONLY
    """What models run on, in order (``Accelerator.providers``): graphs may have a form that suits it."""


def config_problems(model: type[BaseModel], config: Mapping[str, Json]) -> list[Problem]:
    """The faults of an item's ``config`` as the provider's own type sees them; empty when it is valid."""
    from pydantic import ValidationError  # the processes that run steps import this module and never check a spec

    try:
        model.model_validate(config)
    except ValidationError as error:
        return [Problem(("config", *fault["loc"]), fault["msg"]) for fault in error.errors()]
    return []


class Plugin(Protocol):
    """The compile half of a provider; an object of a class that has this as its base, or that has the same members.

    All methods are pure: they read no disk and no network.

    The one exception: ``compile`` may read small files of ``Given.sources``, whose hashes are in the keys of all steps
    that they are given to.
    """

    provider: str
    """``inline::onnx``, as the spec names it."""
    kinds: tuple[str, ...]
    """The sections of the spec it serves: ("models",)."""

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in the item that the spec's own types do not show; paths start at the item (("source",))."""
        ...

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:  # noqa: ARG002
        """Other items this one is built from, as (kind, name); they are compiled first. Default: none."""
        return ()

    def sources(self, item: Item) -> Mapping[str, str]:  # noqa: ARG002
        """Local name -> URI or glob of the spec; fetched, hashed and locked before ``compile`` is asked. Default: none."""
        return {}

    def compile(self, item: Item, given: Given) -> Compiled:
        """Declare the steps and services; runs nothing."""
        ...
