"""`inline::http` for the builder: checks a request's form and declares its service; nothing is compiled or fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator, SchemaError

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service
from lsbuild.declaring import HEADER, HTTP, JSON_SCHEMA, RE2, by_name, one_tool, terms
from lsbuild.spec.model import HttpCall, Tool
from lsbuild.spec.secret import Secret
from lsbuild_plugins.http_tool.serve import places
from lsbuild_plugins.http_tool.serve.addresses import allowed
from lsbuild_plugins.http_tool.serve.guard import host_fault
from lsbuild_plugins.http_tool.serve.pick import steps
from lsbuild_plugins.http_tool.serve.weburl import UrlError, parse

_SERVE = "lsbuild_plugins.http_tool.serve"
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_PLACES = ("path", "query", "header", "body")
_WITH_BODY = ("POST", "PUT", "PATCH")
_OURS = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding")


class HttpPlugin(Plugin):
    """The compile half of `inline::http`."""

    provider = "inline::http"
    kinds = ("tools",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in the request: its URL, parameters, headers, hosts and the path into the answer."""
        spec = _spec(item)
        if spec.http is None:
            yield Problem(("provider",), "inline::http needs 'http', the request")
            return
        yield from one_tool(item, spec)
        if not spec.description:
            yield Problem(("description",), "missing: by its description a model knows what the tool is for")
        if spec.config:
            yield Problem(("config",), "inline::http has no settings but those of 'http'")
        for fault in (*_url(spec.http), *_parameters(spec.http), *_rest(spec.http)):
            yield Problem(("http", *fault.path), fault.message)

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002
        """One service; urllib3 and the serve half travel with it, and RE2 where a parameter has a pattern."""
        spec = _spec(item)
        call = cast("HttpCall", spec.http)
        patterns = any("pattern" in str(each) for each in call.parameters.values())
        service = Service(
            api="tool_runtime",
            name=item.name,
            provider=item.provider,
            entry=f"{_SERVE}:open_tool",
            config={**_request(call), "schema": _schema(call)},
            metadata={
                "tools": [item.name],
                "description": spec.description or "",
                **terms(spec, sends="external"),
                "hosts": list(_hosts(call)),
            },
        )
        wheels = (JSON_SCHEMA, HTTP, *((RE2,) if patterns else ()))
        function = {
            "name": item.name,
            "description": service.metadata["description"],
            "parameters": service.config["schema"],
        }
        return Compiled(services=(service,), wheels=wheels, code=(_SERVE,), functions=(function,))


PLUGIN = HttpPlugin()


def _url(call: HttpCall) -> Iterator[Problem]:
    if _whole(call):
        if not call.hosts:
            yield Problem(("hosts",), "missing: the model chooses the URL, so say which hosts it may choose from")
        if call.query:
            yield Problem(("query",), "the model chooses the whole URL; a fixed query belongs to a fixed one")
        return
    if "${" in call.url:
        if not call.hosts:
            yield Problem(("hosts",), "missing: the url is known only where the artifact runs, so name its host")
        return
    try:
        url = parse(re.sub(r"\{[A-Za-z_][A-Za-z0-9_]*\}", "x", call.url))
        if "{" in call.url.partition("://")[2].partition("/")[0]:
            yield Problem(("url",), 'a parameter cannot stand in the host; use "{url}" alone with hosts')
        if "{" in call.url.partition("?")[2]:
            yield Problem(("url",), "a parameter of the query is named under parameters, not in the url")
        if "#" in call.url:
            yield Problem(("url",), "what follows a # is never sent")
        if _inside(url.host) and not call.private:
            yield Problem(("private",), f"{url.host} is an address that is not asked unless private: true")
    except UrlError as error:
        yield Problem(("url",), str(error))


def _parameters(call: HttpCall) -> Iterator[Problem]:
    for name in places(call.url):
        if name not in call.parameters:
            yield Problem(("parameters",), f"'{name}' is in the url and has no schema here")
    for name, parameter in call.parameters.items():
        at = ("parameters", name)
        if not _PARAMETER.fullmatch(name):
            yield Problem(at, f"'{name}' is no name of a parameter")
        place = _place(call, name)
        if place not in _PLACES:
            yield Problem((*at, "in"), f"{place!r} is not one of {', '.join(_PLACES)}")
        if (place == "path") != (name in places(call.url)):
            wanted = "is in the url, so it is in: path" if place != "path" else f"has no place {{{name}}} in the url"
            yield Problem((*at, "in"), f"'{name}' {wanted}")
        if place == "body" and call.method not in _WITH_BODY:
            yield Problem((*at, "in"), f"{call.method} has no body; use {', '.join(_WITH_BODY)}")
        if place == "header" and (not HEADER.fullmatch(name) or name.lower() in _OURS):
            yield Problem(at, f"'{name}' is not a header that a tool may set")
        if not isinstance(parameter.get("required", True), bool):
            yield Problem((*at, "required"), "expected true or false")
        try:
            Draft202012Validator.check_schema(_bare(parameter))
        except SchemaError as error:
            yield Problem(at, f"not a JSON Schema: {error.message[:200]}")


def _rest(call: HttpCall) -> Iterator[Problem]:
    if call.token and "authorization" in map(str.lower, call.headers):
        yield Problem(("token",), "there is a header 'authorization' already")
    for name in call.headers:
        if not HEADER.fullmatch(name) or name.lower() in _OURS:
            yield Problem(("headers", name), f"'{name}' is not a header that a tool may set")
    for place, host in enumerate(call.hosts):
        if "${" not in host and (fault := host_fault(host)):
            yield Problem(("hosts", place), f"'{host}': {fault}")
    try:
        steps(call.result)
    except ValueError as error:
        yield Problem(("result",), str(error))


def _inside(host: str) -> bool:
    """Whether a host is an address that a tool may not ask as it is."""
    literal = ":" in host or host.replace(".", "").isdecimal()
    return host == "localhost" or (literal and not allowed(host, private=False))


def _whole(call: HttpCall) -> bool:
    found = places(call.url)
    return bool(found) and call.url == f"{{{found[0]}}}"


def _place(call: HttpCall, name: str) -> str:
    usual = "path" if name in places(call.url) else "body" if call.method in _WITH_BODY else "query"
    return str(call.parameters[name].get("in", usual))


def _bare(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a parameter, without what says where it goes."""
    return {key: value for key, value in parameter.items() if key not in ("in", "required")}


def _schema(call: HttpCall) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: _bare(each) for name, each in call.parameters.items()},
        "additionalProperties": False,
    }
    needed = [name for name, each in call.parameters.items() if each.get("required", "default" not in each)]
    return {**found, "required": needed} if needed else found


def _hosts(call: HttpCall) -> tuple[str, ...]:
    if call.hosts:
        return call.hosts
    return (parse(re.sub(r"\{[A-Za-z_][A-Za-z0-9_]*\}", "x", call.url)).authority,)


def _request(call: HttpCall) -> dict[str, Any]:
    """The service's config: the request with its secrets named."""
    both = {**call.headers, **call.query}
    return {
        "url": call.url,
        "method": call.method,
        "hosts": list(_hosts(call)),
        "private": call.private,
        "parameters": {
            name: {"place": _place(call, name), "schema": _bare(each)} for name, each in call.parameters.items()
        },
        "headers": {name: by_name(each) for name, each in call.headers.items()},
        "query": {name: by_name(each) for name, each in call.query.items()},
        "token": by_name(call.token) if call.token else "",
        "secrets": [name for name, value in both.items() if isinstance(value, Secret) or "${env." in value],
        "result": call.result,
        "timeout": call.timeout,
        "answer": call.answer,
    }


def _spec(item: Item) -> Tool:
    return cast("Tool", item.spec)
