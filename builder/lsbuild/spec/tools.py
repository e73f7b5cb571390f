"""The types of tools in a spec."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from lsbuild.spec.secret import Secret
from lsbuild.spec.section import Section
from lsbuild.spec.units import Bytes, Seconds


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
