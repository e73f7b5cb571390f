"""`inline::http` at run time: fills the arguments of a call into one request and cuts the answer to what a model reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from lsbuild_plugins.http_tool.serve.guard import Guard, Refused, Resolve, system_resolve
from lsbuild_plugins.http_tool.serve.pick import pick, steps
from lsbuild_plugins.http_tool.serve.weburl import UrlError, parse
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.tools import ToolInfo, ToolResult

MOST_TEXT = 32_000
"""Characters of an answer that a model gets."""
_TOLD = 300
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TEXT = re.compile(r"text/.*|application/(?:[a-z.+-]*\+)?(?:json|xml|yaml|x-ndjson|javascript)")
_SHORTEST_SECRET = 4


class Parameter(Struct, frozen=True):
    """Where an argument goes, and its JSON Schema."""

    place: Literal["path", "query", "header", "body"]
    schema: dict[str, Any]


class Request(Struct, frozen=True):
    """What the manifest says of the request. ``secrets`` are the headers and parts of the query that are nobody's to see."""

    url: str
    method: str
    hosts: tuple[str, ...]
    parameters: dict[str, Parameter]
    private: bool = False
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    token: str = ""
    secrets: tuple[str, ...] = ()
    result: str = ""
    timeout: float = 10.0
    answer: int = 1 << 20


class HttpTool:
    """Implements tools.ToolRuntime for one request; every call makes a connection of its own."""

    def __init__(self, info: ToolInfo, request: Request, resolve: Resolve = system_resolve, dial: Any = None) -> None:
        self._info = info
        self._request = request
        self._guard = Guard(request.hosts, request.private, resolve)
        self._dial = dial
        self._result = steps(request.result) if request.result else []
        values = [request.token, *({**request.headers, **request.query}[name] for name in request.secrets)]
        # Also without "Bearer ": a server that repeats what it got repeats the token alone.
        known = {
            part for value in values for part in (value, value.rpartition(" ")[2]) if len(part) >= _SHORTEST_SECRET
        }
        self._hidden = re.compile("|".join(re.escape(each) for each in sorted(known, key=len, reverse=True)) or r"(?!)")

    def tools(self, context: Context) -> Sequence[ToolInfo]:  # noqa: ARG002 - the same for everybody
        """See tools.ToolRuntime."""
        return (self._info,)

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """See tools.ToolRuntime. Whatever the server does, and a request that is refused, is a failed result."""
        from lsbuild_plugins.http_tool.serve.exchange import dial, exchange  # with urllib3, by the first call

        if name != self._info.name:
            raise ApiError(404, f"there is no tool {name[:100]!r}", code="not_found")
        try:
            question = self._question(arguments)
            with context.watch.span(
                f"{question.method} {question.url.host}", **{"server.address": question.url.host}
            ) as span:
                answer = exchange(
                    question, self._guard, context, self._request.timeout, self._request.answer, self._dial or dial
                )
                span.set(**{"http.response.status_code": answer.status})
        except (Refused, UrlError) as error:
            return ToolResult(f"The request failed: {error}.", failed=True)
        return self._told(answer)

    def _question(self, arguments: Mapping[str, Any]) -> Any:
        from lsbuild_plugins.http_tool.serve.exchange import Question

        request = self._request
        given: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}, "body": {}}
        for name, parameter in request.parameters.items():
            value = arguments.get(name, parameter.schema.get("default"))
            if value is not None:
                given[parameter.place][name] = value
        query = _query({**request.query, **given["query"]})
        text = filled(request.url, given["path"])
        if query:
            text += ("&" if "?" in text else "?") + query
        headers = {"Accept": "application/json, text/*;q=0.9", "Accept-Encoding": "gzip"}
        headers |= request.headers | {name: _header(name, value) for name, value in given["header"].items()}
        if request.token:
            headers["Authorization"] = f"Bearer {request.token}"
        body = None
        if any(each.place == "body" for each in request.parameters.values()):
            body = msgspec.json.encode(given["body"])
            headers["Content-Type"] = "application/json"
        secret = frozenset({"authorization", *(name.lower() for name in request.secrets)})
        return Question(parse(text), request.method, headers, body, secret)

    def _told(self, answer: Any) -> ToolResult:
        """The answer for the model: JSON cut by the path of the spec, other text as it is."""
        if answer.body and not _TEXT.fullmatch(answer.type or "text/plain"):
            return ToolResult(
                f"The server answered {answer.status} with {answer.type[:60]}, which is no text.", failed=True
            )
        try:
            text = answer.body.decode(answer.charset, "replace")
        except LookupError:
            text = answer.body.decode("utf-8", "replace")
        text = self._hidden.sub("[secret]", text)
        if not 200 <= answer.status < 300:
            return ToolResult(f"The server answered {answer.status}: {text[:_TOLD]}", failed=True)
        value = _json(text) if answer.type.endswith("json") else None
        if self._result:
            if value is None:
                return ToolResult(
                    "The server's answer is not JSON, so the part that is wanted is not in it.", failed=True
                )
            try:
                value = pick(value, self._result)
            except LookupError:
                return ToolResult(f"The server's answer has no {self._request.result}.", failed=True)
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if len(text) > MOST_TEXT:
            text = f"{text[:MOST_TEXT]}\n[cut: {len(text) - MOST_TEXT} more characters]"
        return ToolResult(text, structured=value)


def open_tool(service: Service, root: Path, host: Host) -> HttpTool:  # noqa: ARG001 - the entry's shape
    """The entry; connects to nothing yet."""
    told, config = service.metadata, service.config
    info = ToolInfo(
        service.name,
        told["description"],
        config["schema"],
        sends=told["sends"],
        trusted=told["trusted"],
        approval=told["approval"] == "always",
    )
    return HttpTool(info, msgspec.convert({name: each for name, each in config.items() if name != "schema"}, Request))


def filled(url: str, values: Mapping[str, Any]) -> str:
    """``url`` with its places filled; a place that stands for the whole URL takes one. Refused for what moves the path."""
    if _PLACE.fullmatch(url):
        return str(values.get(url[1:-1], ""))

    def part(match: re.Match[str]) -> str:
        value = _plain(values.get(match[1], ""))
        if not value or value in (".", "..") or any(sign in value for sign in "/\\") or not value.isprintable():
            raise Refused(f"'{match[1]}' is {value[:40]!r}; it has to be one step of a path, without / and \\")
        return quote(value, safe="")

    return _PLACE.sub(part, url)


def places(url: str) -> list[str]:
    """The parameters that ``url`` names."""
    return _PLACE.findall(url)


def _query(values: Mapping[str, Any]) -> str:
    pairs = [
        (name, _plain(each))
        for name, value in values.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return urlencode(pairs)


def _header(name: str, value: Any) -> str:
    text = _plain(value)
    if not text.isascii() or not text.isprintable():
        raise Refused(f"'{name}' goes into a header, which takes printable ASCII only")
    return text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.MsgspecError, RecursionError):
        return None
