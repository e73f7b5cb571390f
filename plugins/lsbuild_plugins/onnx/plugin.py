"""`inline::onnx` for the builder: declares the compile step and the service of a local model; reads and runs nothing.

What is of shields stands in `shields`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import CPU_ONLY, Compiled, Given, Item, Json, Plugin, Problem, Service, Step, config_problems
from lsbuild.spec.model import Model
from lsbuild_plugins.onnx.parts import (
    COMPILE,
    DECODER_WHEELS,
    READ,
    SERVE,
    TOOLS,
    WHEELS,
    chosen,
    default_format,
    fitted_to,
)
from lsbuild_plugins.onnx.shields import SHIELDS

_RUN = {"llm": "step:decoder", "embedding": "step:encoder", "rerank": "rerank:reranker"}
_API = {"llm": "inference", "embedding": "embeddings", "rerank": "rerank"}
_ENTRY = {"llm": "engine:open_engine", "embedding": "encoder:open_encoder", "rerank": "reranker:open_reranker"}


class Defaults(BaseModel):
    """Sampling where a request says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    temperature: float | None = Field(default=None, ge=0, le=2)
    """0 always takes the likeliest token."""
    top_p: float | None = Field(default=None, ge=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    top_k: int | None = Field(default=None, ge=0)
    """Sample from that many of the likeliest tokens; 0 from all."""


class Config(BaseModel):
    """Settings of a local model under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    threads: int | str | None = Field(default=None)
    """Threads of one run; ``${env.X}`` is read at start. Default: the CPUs the process may use."""
    queue: int | str | None = Field(default=None)
    """Requests that may wait for a language model. Default: 32."""
    providers: tuple[Literal["tensorrt", "cuda", "cpu"], ...] | None = Field(default=None, min_length=1)
    """What of the target's providers this model runs on, best first: ``[cpu]`` keeps a small one off the GPU. Default: all."""
    sampling: Defaults | None = None
    """Sampling of a language model where a request says nothing. Default: temperature 1."""
    pooling: Literal["mean", "cls"] | None = None
    """How an encoder's tokens become one vector, where the model does not say it (modules.json)."""
    schemas: list[str] = Field(default_factory=list)
    """Files with JSON schemas, or lists of tools, that requests will hold a language model to: checked when it is built."""
    export: bool | str = False
    """``true`` allows the export of other architectures with optimum in an environment of its own (gigabytes); a path
    names the Python interpreter of an environment that has optimum-onnx already."""


class Onnx(Plugin):
    """The compile half of `inline::onnx`."""

    provider = "inline::onnx"
    kinds = ("models", "shields")

    def check(self, item: Item) -> Iterable[Problem]:
        """A missing source, a format that the type does not have, unknown settings."""
        if item.kind == "shields":
            yield from SHIELDS.check(item)
            return
        spec = _spec(item)
        if not spec.source:
            yield Problem(
                ("source",), "inline::onnx needs a source: a folder, hf://ORG/NAME@REVISION, pypi://NAME==VERSION"
            )
        if spec.type == "llm" and spec.quantize == "int8-fast":
            yield Problem(("quantize",), "int8-fast is for encoders; a language model takes int4, int8 or none")
        if (spec.source or "").endswith(".onnx") and spec.quantize not in (None, "none"):
            yield Problem(("quantize",), "an .onnx file is taken as it is: leave quantize out")
        if spec.dimensions is not None:
            yield Problem(("dimensions",), "is for remote models; a compiled model knows its own")
        if faults := config_problems(Config, spec.config):
            yield from faults
            return
        config = Config.model_validate(spec.config)
        only = {"queue": "llm", "sampling": "llm", "schemas": "llm", "pooling": "embedding"}
        for key, kind in only.items():
            if getattr(config, key) not in (None, []) and spec.type != kind:
                yield Problem(("config", key), f"is for models of type {kind}")

    def sources(self, item: Item) -> Mapping[str, str]:
        """The checkpoint, and the schemas of ``config.schemas``."""
        source: str | None = getattr(item.spec, "source", None)
        schemas = getattr(item.spec, "config", {}).get("schemas", [])
        return ({"weights": source} if source else {}) | {f"schema{n}": uri for n, uri in enumerate(schemas)}

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step and one service; what the model is (its family, its dimensions) is found when the step runs."""
        if item.kind == "shields":
            return SHIELDS.compile(item, given)
        spec = _spec(item)
        config = Config.model_validate(spec.config)
        folder, providers = f"models/{item.name}", chosen(config.providers, given.providers)
        options: dict[str, Json] = {
            "quantize": spec.quantize or default_format(spec.type, providers),
            "explicit": spec.quantize is not None,
            "context": spec.context,
            "export": config.export,
            **fitted_to(providers),
        }
        step = Step(
            name=f"models.{item.name}.graph",
            run=f"{COMPILE}.{_RUN[spec.type]}",
            options=options | ({"pooling": config.pooling} if spec.type == "embedding" else {}),
            sources={"weights": given.sources["weights"]},
            tools=TOOLS,
            code=(COMPILE, *READ),
            ship=folder,
        )
        steps = (step, *_schemas(item, config, given))
        prompted = _prompted(item, step) if spec.type == "llm" else None
        return Compiled(steps, (_service(item, config, folder, given),), _wheels(spec), (SERVE,), prompted=prompted)


def _schemas(item: Item, config: Config, given: Given) -> tuple[Step, ...]:
    if not config.schemas:
        return ()
    step = Step(
        name=f"models.{item.name}.schemas",
        run=f"{COMPILE}.schemas:run",
        sources={name: source for name, source in given.sources.items() if name != "weights"},
        tools=("llguidance",),
        code=(f"{COMPILE}.schemas", SERVE),
        ship=f"grammars/{item.name}",
        part="app",
    )
    return (step,)


def _prompted(item: Item, graph: Step) -> Step:
    """See Compiled.prompted: it reads the tokenizer and the chat template, and writes what `serve.known` reads."""
    return Step(
        name="",
        run=f"{COMPILE}.prompted:run",
        options={"model": item.name},
        needs={"model": graph.name},
        tools=("llguidance", "tokenizers", "minijinja"),
        code=(f"{COMPILE}.prompted", f"{COMPILE}.schemas", SERVE),
        ship=f"grammars/{item.name}",
        part="app",
    )


def _service(item: Item, config: Config, folder: str, given: Given) -> Service:
    spec = _spec(item)
    sampling = config.sampling.model_dump(exclude_none=True) if config.sampling else {}
    # A target without a GPU has nothing to choose from.
    some = config.providers is not None and given.providers != CPU_ONLY
    own = {"providers": list(chosen(config.providers, given.providers))} if some else None
    settings = {"threads": config.threads, "queue": config.queue, "execution": own}
    return Service(
        api=_API[spec.type],
        name=item.name,
        provider=item.provider,
        entry=f"{SERVE}.{_ENTRY[spec.type]}",
        path=folder,
        config={key: value for key, value in settings.items() if value is not None},
        metadata={"model_type": spec.type, **({"sampling": sampling} if sampling else {})},
    )


def _wheels(spec: Model) -> tuple[str, ...]:
    return DECODER_WHEELS if spec.type == "llm" else WHEELS


def _spec(item: Item) -> Model:
    return cast("Model", item.spec)


PLUGIN = Onnx()
