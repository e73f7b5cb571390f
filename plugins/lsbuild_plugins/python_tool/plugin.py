"""`inline::python` for the builder: reads what a file says of its tools and declares step, service and wheels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Apart, Compiled, Given, Item, Plugin, Problem, Service, SourceError, Step, config_problems
from lsbuild.declaring import JSON_SCHEMA, terms
from lsbuild.spec.model import Tool
from lsbuild.spec.secret import Secret
from lsbuild.spec.units import Bytes, Seconds
from lsbuild_plugins.python_tool.compile import functions, metadata

_SERVE = "lsbuild_plugins.python_tool.serve"


class Config(BaseModel):
    """Settings of a Python tool under ``config``: what its process gets."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    network: bool = False
    """Whether it may use the network."""
    env: dict[str, str | Secret] = {}
    """Its environment, beside PATH, HOME, TMPDIR and the locale; nothing else of the server's reaches it."""
    read: tuple[str, ...] = ()
    """Absolute paths of files and folders that it may read, beside Python, its own and what every program needs."""
    timeout: Seconds = Field(default=10.0, gt=0)
    """Longest time of one call."""
    memory: Bytes = Field(default=1 << 30, ge=64 << 20)
    """Address space of its process."""
    output: Bytes = Field(default=64 << 10, gt=0, le=16 << 20)
    """Largest result, as JSON."""
    file: Bytes = Field(default=16 << 20, ge=0)
    """Largest file that it may write, in a folder that is empty at each call."""


class PythonPlugin(Plugin):
    """The compile half of `inline::python`."""

    provider = "inline::python"
    kinds = ("tools",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``, and a file that is no Python file."""
        spec = _spec(item)
        if spec.python is None:
            yield Problem(("provider",), "inline::python needs 'python', the file with the functions")
        elif not spec.python.endswith(".py"):
            yield Problem(("python",), f"'{spec.python}' is not a .py file")
        faults = config_problems(Config, spec.config)
        yield from faults
        if not faults:
            for place, path in enumerate(_config(item).read):
                if not path.startswith("/"):
                    yield Problem(("config", "read", place), f"'{path}' is not an absolute path")
        if spec.description:
            yield Problem(("description",), "each function brings its own, in its docstring")

    def sources(self, item: Item) -> Mapping[str, str]:
        """The file."""
        return {"file": _spec(item).python or ""}

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step that writes the file and its definitions, one service, and the wheels of its own dependencies."""
        spec, folder = _spec(item), f"tools/{item.name}"
        where = spec.python or ""
        text = _text(given.sources["file"], where)
        needs = metadata.read(text, where)
        tools = [each._asdict() for each in functions.read(text, where)]
        offered = _offered(tools, spec, where)
        step = Step(
            name=f"tools.{item.name}.python",
            run="lsbuild_plugins.python_tool.compile.step:run",
            options={"tools": tools},
            sources={"file": given.sources["file"]},
            code=("lsbuild_plugins.python_tool.compile",),
            ship=folder,
            part="app",
        )
        own = needs.dependencies or needs.python
        apart = {f"{folder}/site": Apart(needs.dependencies, needs.python)} if own else {}
        service = _service(item, folder, [each["name"] for each in offered])
        return Compiled((step,), (service,), wheels=(JSON_SCHEMA,), code=(_SERVE,), apart=apart, functions=offered)


PLUGIN = PythonPlugin()


def _offered(tools: Sequence[Mapping[str, Any]], spec: Tool, where: str) -> tuple[Mapping[str, Any], ...]:
    """The functions that may be used; SourceError when ``allow`` names one that is not in the file."""
    names = [each["name"] for each in tools]
    for name in spec.allow:
        if name not in names:
            raise SourceError(f"allow names {name!r}, which is no function here", where=where, hint=f"It has {names}.")
    return tuple(each for each in tools if not spec.allow or each["name"] in spec.allow)


def _service(item: Item, folder: str, tools: list[str]) -> Service:
    config = _config(item)
    limits = _limits(config)
    said = config.model_dump(mode="json", exclude=set(limits), exclude_defaults=True)
    return Service(
        api="tool_runtime",
        name=item.name,
        provider=item.provider,
        entry=f"{_SERVE}:open_tools",
        path=folder,
        config={**said, **limits},
        metadata={"tools": tools, **terms(_spec(item), sends="external" if config.network else "nothing")},
    )


def _limits(config: Config) -> dict[str, Any]:
    """Seconds and bytes as numbers."""
    return {"timeout": config.timeout, "memory": config.memory, "output": config.output, "file": config.file}


def _text(source: Any, where: str) -> str:
    if len(source.files) != 1:
        raise SourceError(f"{len(source.files)} files; a tool is one file", where=where)
    try:
        text: str = source.files[0].location.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"not UTF-8 (byte {error.start})", where=where, hint="Save it as UTF-8.") from error
    return text


def _spec(item: Item) -> Tool:
    return cast("Tool", item.spec)


def _config(item: Item) -> Config:
    return Config.model_validate(_spec(item).config)
