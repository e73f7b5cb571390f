"""`remote::mcp` for the builder: names the definitions of a server's tools as a source, and declares its service."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, SourceError, Step
from lsbuild.declaring import HEADER, HTTP, JSON_SCHEMA, RE2, by_name, terms
from lsbuild.spec.model import McpServer, Tool
from lsbuild_plugins.mcp.serve import definitions

_SERVE = "lsbuild_plugins.mcp.serve"


class McpPlugin(Plugin):
    """The compile half of `remote::mcp`."""

    provider = "remote::mcp"
    kinds = ("tools",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults of the server's address and headers."""
        spec = _spec(item)
        if spec.mcp is None:
            yield Problem(("provider",), "remote::mcp needs 'mcp', the server")
            return
        if spec.description:
            yield Problem(("description",), "the server brings those of its tools")
        if spec.config:
            yield Problem(("config",), "remote::mcp has no settings but those of 'mcp'")
        if spec.mcp.url is not None and "${" not in spec.mcp.url:
            parts = urlsplit(spec.mcp.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                yield Problem(("mcp", "url"), f"'{spec.mcp.url}' is no http or https URL; write https://HOST/mcp")
            elif parts.username or parts.password:
                yield Problem(("mcp", "url"), "the URL holds a password; use token: {secret: NAME}")
        for name in spec.mcp.headers:
            if not HEADER.fullmatch(name):
                yield Problem(("mcp", "headers", name), f"{name!r} is not the name of an HTTP header")

    def sources(self, item: Item) -> Mapping[str, str]:
        """The definitions of its tools, unless they are taken as they come."""
        spec = _spec(item)
        if not spec.pin:
            return {}
        asked = json.dumps(_server(cast("McpServer", spec.mcp)), sort_keys=True, separators=(",", ":"))
        return {"definitions": f"mcp:{item.name}{asked}"}

    def compile(self, item: Item, given: Given) -> Compiled:
        """The service, and the step that ships the definitions; a URL needs urllib3, and schemas of others RE2."""
        spec = _spec(item)
        server = cast("McpServer", spec.mcp)
        folder = f"tools/{item.name}" if spec.pin else ""
        source = given.sources.get("definitions")
        tools = _offered(source, spec, item.name) if source is not None else []
        step = Step(
            name=f"tools.{item.name}.mcp",
            run="lsbuild_plugins.mcp.compile:ship",
            sources={"definitions": source} if source is not None else {},
            code=("lsbuild_plugins.mcp",),
            ship=folder,
            part="app",
        )
        service = Service(
            api="tool_runtime",
            name=item.name,
            provider=item.provider,
            entry=f"{_SERVE}:open_tools",
            path=folder,
            config={**_server(server), "allow": list(spec.allow)},
            metadata={
                "tools": [each.called for each in tools],
                "pinned": spec.pin,
                **terms(spec, sends="external"),
                **({"mcp_endpoint": {"uri": server.url}} if server.url else {}),
            },
        )
        wheels = (*((HTTP,) if server.url else ()), RE2, JSON_SCHEMA)
        functions = tuple(
            {"name": each.called, "description": each.described, "parameters": each.parameters} for each in tools
        )
        steps = (step,) if spec.pin else ()
        return Compiled(steps, (service,), wheels=wheels, code=(_SERVE,), functions=functions)


PLUGIN = McpPlugin()


def _offered(source: Any, spec: Tool, name: str) -> list[definitions.Definition]:
    """The tools that may be used."""
    found = definitions.read(source.files[0].location.read_bytes())
    for wanted in spec.allow:
        if all(wanted not in (each.name, each.called) for each in found):
            known = ", ".join(each.name for each in found)
            raise SourceError(
                f"allow names {wanted!r}, which its server does not have",
                where=f"tools.{name}",
                hint=f"It has {known}.",
            )
    return [each for each in found if not spec.allow or each.name in spec.allow or each.called in spec.allow]


def _server(server: McpServer) -> dict[str, Any]:
    """The server as the runtime gets it: secrets by name, what is not said left out."""
    told: dict[str, Any] = {
        "command": list(server.command),
        "url": server.url,
        "env": {name: by_name(each) for name, each in server.env.items()},
        "headers": {name: by_name(each) for name, each in server.headers.items()},
        "token": by_name(server.token) if server.token else None,
    }
    return {**{name: value for name, value in told.items() if value}, "timeout": server.timeout}


def _spec(item: Item) -> Tool:
    return cast("Tool", item.spec)
