"""Tool groups, connectors and providers of tool_runtime to ``tools`` of the spec, as far as there are such tools here."""

from __future__ import annotations

from collections.abc import Mapping

from lsbuild.importing import env
from lsbuild.importing.draft import Entry, Field, Value
from lsbuild.importing.names import variable_of
from lsbuild.importing.remotes import secret_of
from lsbuild.importing.stack import Provider, Resource, text
from lsbuild.importing.work import Work, place, told

_MCP = "remote::model-context-protocol"
_SEARCHES = ("inline::file-search", "inline::rag-runtime")
_OWN = "an agent searches the stores it names: `tools: [file_search]`"
_IDS = ("toolgroup_id", "tool_group_id", "connector_id", "identifier")
_PINNED = "the build asks the server for its tools and pins them"
_NO_COUNTERPART = "there is no such tool; `tools` has python, http and mcp"


def add(work: Work) -> None:
    """MCP servers and web searches become tools; what agents do anyway and what has no counterpart is named."""
    providers = {each.id: each for each in reversed(work.stack.providers) if each.api == "tool_runtime"}
    used = {owner for each in work.stack.of("tool_groups", "connectors") if (owner := _group(work, providers, each))}
    for provider in (each for each in work.stack.providers if each.api == "tool_runtime"):
        what = f"provider tool_runtime/{provider.id} ({provider.type})"
        if provider.type in _SEARCHES:
            work.found("default", what, provider.where, "", _OWN)
        elif provider.type == _MCP:
            work.found("mapped", what, provider.where, "", "each of its servers is an entry of `tools`")
        elif provider.type not in _WEB:
            work.found("none", what, provider.where, "", _NO_COUNTERPART)
        elif provider.id in used:
            work.found("mapped", what, provider.where, "", "its tool is an entry of `tools`")
        else:
            _web_search(work, provider, what, provider.where)


def _group(work: Work, providers: Mapping[str, Provider], resource: Resource) -> str:
    """Draft a registered group; returns its provider's id, or ""."""
    written = resource.text(*_IDS) or ""
    name, what = env.usual(written), f"{resource.kind} {env.usual(written)}".rstrip()
    provider = providers.get(env.usual(resource.text("provider_id") or ""))
    uri = _uri(resource)
    if uri:
        _server(work, resource, name, uri, provider, what)
    elif provider is not None and provider.type in _WEB:
        _web_search(work, provider, what, resource.where)
    elif (provider is not None and provider.type in _SEARCHES) or name in ("builtin::rag", "builtin::file_search"):
        work.found("default", what, resource.where, "", _OWN)
    else:
        work.found("none", what, resource.where, "", "it names no server" if provider is None else _NO_COUNTERPART)
    return provider.id if provider is not None else ""


def _uri(resource: Resource) -> str:
    endpoint = resource.node.map.get("mcp_endpoint")
    return (text(endpoint.map.get("uri")) if endpoint is not None else None) or resource.text("url") or ""


def _server(work: Work, resource: Resource, id_: str, uri: str, provider: Provider | None, what: str) -> None:
    """An MCP server at a URL. The transport of old servers (SSE) is not spoken, which the build would find out."""
    conditions = (*env.conditions(uri), *(provider.conditions if provider else ()))
    off = bool(provider and provider.off) or bool(conditions)
    notes = [_PINNED]
    if env.usual(uri).rstrip("/").endswith("/sse"):
        notes.append("it looks like SSE, which is not spoken: name its streamable HTTP endpoint")
        off = True
    if "args" in resource.node.map:
        notes.append("its args are left out")
    if conditions:
        notes.append(f"commented out: it was there only when {', '.join(conditions)} was set")
    name = work.name("tools", id_.removeprefix("mcp::") or "server")
    server: dict[str, Field] = {"url": Field(env.modern(uri), place(resource.where))}
    comments = [f"{what}, line {place(resource.where)}", *notes]
    path = work.add(Entry("tools", name, {"mcp": Field(server)}, comments, not off, id_))
    work.found("attention", what, resource.where, path, told(*notes))


def _web_search(work: Work, provider: Provider, what: str, where: str) -> None:
    """A search of the web as a request, under the name that agents and clients know."""
    if any(entry.section == "tools" and entry.name == "web_search" for entry in work.entries):
        work.found("attention", what, where, "", "there is a web_search already; left out")
        return
    notes: list[str] = []
    key = provider.config.map.get("api_key")
    usual = variable_of(provider.id, "api_key")
    secret = secret_of(key, provider.id, usual, notes) if key is not None else None
    inner = secret.value if secret is not None else {"secret": Field(usual)}
    named = inner["secret"].value if isinstance(inner, Mapping) else usual
    conditions = provider.conditions
    off = provider.off or bool(conditions)
    if conditions:
        notes.append(f"commented out: it was there only when {', '.join(conditions)} was set")
    fields = {
        "description": Field("Searches the web."),
        "http": Field(_WEB[provider.type](str(named))),
    }
    comments = [f"{provider.id} ({provider.type}), line {place(where)}", *notes]
    path = work.add(Entry("tools", "web_search", fields, comments, not off, "web_search"))
    work.found("attention", what, where, path, told("its answers are shown as they are", *notes))


def _nested(values: Mapping[str, object]) -> Value:
    """A map of plain values as fields."""
    found: dict[str, Field] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found[name] = Field(_nested(value))
        elif isinstance(value, str | int | float | bool):
            found[name] = Field(value)
    return found


def _tavily(key: str) -> Value:
    return _nested(
        {
            "url": "https://api.tavily.com/search",
            "method": "POST",
            "parameters": {"query": {"type": "string"}},
            "token": {"secret": key},
            "result": "$.results",
        }
    )


def _brave(key: str) -> Value:
    return _nested(
        {
            "url": "https://api.search.brave.com/res/v1/web/search",
            "parameters": {"q": {"type": "string", "description": "What to search for."}},
            "headers": {"x-subscription-token": {"secret": key}},
            "result": "$.web.results",
        }
    )


_WEB = {"remote::tavily-search": _tavily, "remote::brave-search": _brave}
"""Web searches that one request can ask, by the provider's type."""
