"""`inline::http` against real little servers: what is asked, what a model gets of the answer, and every way it fails."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lsbuild.api import Given, Item
from lsbuild.spec.model import Tool
from lsbuild_plugins.http_tool.plugin import PLUGIN
from lsbuild_plugins.http_tool.serve import MOST_TEXT, HttpTool, open_tool
from lsbuild_plugins.http_tool.serve.pick import pick, steps
from lsbuild_plugins.http_tool.serve.weburl import UrlError, joined, parse
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.services import resolve
from lsbuild_runtime.tools import ToolResult
from lsbuild_runtime.watch import JsonWatch

Answering = Callable[[http.server.BaseHTTPRequestHandler, bytes], None]


class Server:
    """Answers as a test says and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answering: Answering = lambda handler, _: send(handler, 200, {"ok": True})
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.asked.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
                owner.answering(self, body)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815 - names of the library

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


def send(
    handler: http.server.BaseHTTPRequestHandler, status: int, body: Any, kind: str = "application/json", **headers: str
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"content-type": kind, "content-length": str(len(data)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@contextmanager
def serving() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()


def item(http: dict[str, Any], name: str = "weather", **more: Any) -> Item:
    spec = Tool.model_validate({"http": http, "description": "Tells the weather.", **more})
    return Item("tools", name, spec.provider, spec, Path())


def opened(server: Server, path: str, **http: Any) -> HttpTool:
    """The tool of a spec, as a booted artifact would open it."""
    base = f"http://127.0.0.1:{server.port}"
    entry = item({"url": path if path.startswith("{") else base + path, "private": True, **http})
    assert list(PLUGIN.check(entry)) == []
    (service,) = PLUGIN.compile(entry, Given({})).services
    import msgspec

    return open_tool(msgspec.structs.replace(service, config=resolve(service.config)), Path(), None)  # type: ignore[arg-type]


def call(tool: HttpTool, context: Context | None = None, **arguments: Any) -> ToolResult:
    """``X_A`` stands for X-A."""
    given = {name.replace("_", "-"): value for name, value in arguments.items()}
    return tool.call("weather", given, context or Context())


def test_parameters_go_where_the_spec_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k-123456")
    tool = opened(
        server,
        "/v1/{city}/days?fixed=1",
        method="POST",
        parameters={
            "city": {"type": "string"},
            "unit": {"type": "string", "in": "query", "default": "c"},
            "tags": {"type": "array", "in": "query", "required": False},
            "X-Trace": {"type": "string", "in": "header", "required": False},
            "days": {"type": "integer"},
            "full": {"type": "boolean", "required": False},
        },
        headers={"Authorization": "Bearer ${env.KEY}"},
        query={"key": {"secret": "KEY"}},
    )
    (info,) = tool.tools(Context())
    assert info.name == "weather" and info.sends == "external" and not info.trusted
    assert info.parameters["required"] == ["city", "days"]
    assert "in" not in info.parameters["properties"]["unit"]
    result = call(tool, city="São Paulo?&#%2F", days=3, tags=["a b", "c&d"], full=True, X_Trace="t")
    assert result.structured == {"ok": True}
    (asked,) = server.asked
    assert asked["path"] == ("/v1/S%C3%A3o%20Paulo%3F%26%23%252F/days?fixed=1&key=k-123456&unit=c&tags=a+b&tags=c%26d")
    assert json.loads(asked["body"]) == {"days": 3, "full": True}
    assert asked["headers"]["authorization"] == "Bearer k-123456" and asked["headers"]["x-trace"] == "t"
    assert asked["headers"]["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("city", ["", ".", "..", "a/b", "../admin", "a\\b", "a\nb", "\x00"])
def test_a_parameter_cannot_move_the_path(server: Server, city: str) -> None:
    result = call(opened(server, "/v1/{city}/days", parameters={"city": {"type": "string"}}), city=city)
    assert result.failed and "one step of a path" in result.text and server.asked == []


def test_a_header_takes_no_line_break(server: Server) -> None:
    tool = opened(server, "/", parameters={"X-A": {"type": "string", "in": "header"}})
    assert call(tool, X_A="a\r\nX-B: c").failed and server.asked == []


def test_the_result_is_cut_by_a_path(server: Server) -> None:
    value = {"days": [{"wind": 3, "at": "mo"}, {"at": "tu"}], "odd name": 1}
    server.answering = lambda handler, _: send(handler, 200, value)
    for path, text in (
        ("$.days[0].wind", "3"), ("days[*].at", '["mo","tu"]'), ("$.days[*].wind", "[3]"), ("$['odd name']", "1"),
        ("$.days[0].at", "mo"),
    ):  # fmt: skip
        assert call(opened(server, "/", result=path)).text == text
    for path in ("$.nights", "$.days[7]", "$.days.wind", "$.days[0].wind[*]"):
        result = call(opened(server, "/", result=path))
        assert result.failed and f"has no {path}" in result.text
    server.answering = lambda handler, _: send(handler, 200, b"plain", "text/plain")
    assert "not JSON" in call(opened(server, "/", result="$.a")).text


def test_secrets_are_shown_to_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k-123456")
    server.answering = lambda handler, _: send(
        handler, 401, f"bad key {handler.headers['authorization']} {handler.path}".encode(), "text/plain"
    )
    tool = opened(server, "/", token={"secret": "KEY"}, query={"key": {"secret": "KEY"}})
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    with watch.span("call"):
        result = call(tool, Context(watch=watch))
    assert result.failed and result.text == "The server answered 401: bad key Bearer [secret] /?key=[secret]"
    assert "k-123456" not in lines[0] and '"http.response.status_code":401' in lines[0]
    server.server.shutdown()
    server.server.server_close()
    assert "k-123456" not in call(tool).text


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (404, b"no such city", "text/plain", "The server answered 404: no such city"),
        (500, b"<h1>x</h1>", "text/html", "The server answered 500: <h1>x</h1>"),
        (200, b"\x89PNG", "image/png", "with image/png, which is no text"),
        (200, b"PK", "application/zip", "which is no text"),
    ],
)
def test_answers_that_are_no_use_are_failures(server: Server, status: int, body: bytes, kind: str, says: str) -> None:
    server.answering = lambda handler, _: send(handler, status, body, kind)
    result = call(opened(server, "/"))
    assert result.failed and says in result.text


def test_text_in_any_charset_and_compressed(server: Server) -> None:
    server.answering = lambda handler, _: send(handler, 200, "Größe".encode("latin-1"), "text/plain; charset=latin-1")
    assert call(opened(server, "/")).text == "Größe"
    server.answering = lambda handler, _: send(handler, 200, "Größe".encode(), "text/plain; charset=nonsense")
    assert call(opened(server, "/")).text == "Größe"
    packed = gzip.compress(json.dumps({"a": 1}).encode())
    server.answering = lambda handler, _: send(handler, 200, packed, **{"content-encoding": "gzip"})
    assert call(opened(server, "/")).structured == {"a": 1}


def test_too_much_is_not_read_and_not_told(server: Server) -> None:
    server.answering = lambda handler, _: send(handler, 200, b"x" * 5000, "text/plain")
    assert "more than 4096 bytes" in call(opened(server, "/", answer="4KiB")).text
    bomb = gzip.compress(bytes(64 << 20))
    server.answering = lambda handler, _: send(handler, 200, bomb, "text/plain", **{"content-encoding": "gzip"})
    assert "more than 1048576 bytes" in call(opened(server, "/")).text
    server.answering = lambda handler, _: send(handler, 200, b"x" * (MOST_TEXT + 5), "text/plain")
    assert call(opened(server, "/")).text.endswith("[cut: 5 more characters]")


def test_redirects_stay_within_the_hosts_and_leave_secrets_behind(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "k-123456")
    with serving() as other:
        server.answering = lambda handler, _: send(
            handler, 302, b"", location=f"http://127.0.0.1:{other.port}/there?x=1"
        )
        strict = opened(server, "/", token={"secret": "KEY"})
        assert "is not a host that this tool may ask" in call(strict).text and other.asked == []
        hosts = [f"127.0.0.1:{server.port}", f"127.0.0.1:{other.port}"]
        tool = opened(
            server, "/", hosts=hosts, token={"secret": "KEY"}, headers={"X-Key": {"secret": "KEY"}, "X-Plain": "p"}
        )
        assert call(tool).structured == {"ok": True}
        (asked,) = other.asked
        assert (
            asked["path"] == "/there?x=1"
            and "x-key" not in asked["headers"]
            and "authorization" not in asked["headers"]
            and asked["headers"]["x-plain"] == "p"
        )
        assert server.asked[-1]["headers"]["x-key"] == "k-123456"


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [(303, "GET", b""), (302, "GET", b""), (307, "POST", b'{"a":1}'), (308, "POST", b'{"a":1}')],
)
def test_a_redirected_post(server: Server, status: int, method: str, body: bytes) -> None:
    def answering(handler: http.server.BaseHTTPRequestHandler, _: bytes) -> None:
        send(handler, 200, {}) if handler.path == "/b" else send(handler, status, b"", location="/b")

    server.answering = answering
    assert not call(opened(server, "/a", method="POST", parameters={"a": {"type": "integer"}}), a=1).failed
    assert (server.asked[1]["method"], server.asked[1]["body"]) == (method, body)


def test_redirects_end(server: Server) -> None:
    server.answering = lambda handler, _: send(handler, 302, b"", location="/again")
    assert "redirected more than 5 times" in call(opened(server, "/")).text
    assert len(server.asked) == 6


def test_time_is_bounded_even_when_a_server_drips(server: Server) -> None:
    stop = threading.Event()

    def drip(handler: http.server.BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.01):
            try:
                handler.wfile.write(b"x: y\r\n")
                handler.wfile.flush()
            except OSError:
                return

    server.answering = drip
    try:
        assert "took too long" in call(opened(server, "/", timeout="300ms")).text
        context = Context()
        threading.Timer(0.1, context.cancel.set).start()
        with pytest.raises(Cancelled):
            call(opened(server, "/"), context)
        with pytest.raises(ApiError, match="deadline"):
            call(opened(server, "/"), Context(deadline=time.monotonic() + 0.1))
    finally:
        stop.set()


def test_servers_that_do_not_speak_http_are_told() -> None:
    for said in (b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def once(listener: socket.socket = listener, said: bytes = said) -> None:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(said)

            thread = threading.Thread(target=once)
            thread.start()
            found = Server()
            found.server.server_close()
            found.port = port
            result = call(opened(found, "/"))
            thread.join()
            assert result.failed and "127.0.0.1 could not be asked" in result.text
    assert "could not be connected to" in call(opened(found, "/")).text


def test_tls_with_a_certificate_of_another_name_is_refused(server: Server, tmp_path: Path) -> None:
    import ssl
    import subprocess

    pem = tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem.with_suffix(".key"), "-out", pem,
         "-days", "2", "-subj", "/CN=api.example", "-addext", "subjectAltName=DNS:api.example"],
        capture_output=True, check=False,
    ) if os.access("/usr/bin/openssl", os.X_OK) else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("openssl is not there")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem, pem.with_suffix(".key"))
    server.server.socket = tls.wrap_socket(server.server.socket, server_side=True)
    from lsbuild_plugins.http_tool.serve import HttpTool, Request
    from lsbuild_runtime.tools import ToolInfo

    def asked(host: str) -> ToolResult:
        request = Request(f"https://{host}:{server.port}/", "GET", (f"{host}:{server.port}",), {}, private=True)
        tool = HttpTool(ToolInfo("weather", "", {}), request, lambda *_: ["127.0.0.1"])
        return call(tool)

    assert "its certificate is not valid" in asked("api.example").text
    old = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(pem)
    try:
        assert asked("api.example").structured == {"ok": True}
        assert "its certificate is not valid" in asked("other.example").text
    finally:
        os.environ.pop("SSL_CERT_FILE") if old is None else os.environ.update(SSL_CERT_FILE=old)
    assert server.asked[0]["headers"]["host"] == f"api.example:{server.port}"


@pytest.mark.parametrize(
    ("http", "more", "at", "says"),
    [
        ({"url": "ftp://a.example/"}, {}, "http.url", "http://"),
        ({"url": "https://u@a.example/"}, {}, "http.url", "no plain host"),
        ({"url": "https://{host}/x"}, {}, "http", "a parameter cannot stand in the host"),
        ({"url": "https://a.example/{x}"}, {}, "http.parameters", "'x' is in the url and has no schema"),
        ({"url": "https://a.example/?q={q}", "parameters": {"q": {}}}, {}, "http.url", "under parameters"),
        ({"url": "http://127.0.0.1/"}, {}, "http.private", "unless private: true"),
        ({"url": "https://a.example/#x"}, {}, "http.url", "never sent"),
        ({"url": "{url}", "parameters": {"url": {"type": "string"}}}, {}, "http.hosts", "which hosts"),
        ({"url": "https://a.example/", "parameters": {"x": {"in": "cookie"}}}, {}, "http.parameters.x.in", "'cookie' is not"),
        ({"url": "https://a.example/", "parameters": {"x": {"in": "body"}}}, {}, "http.parameters.x.in", "GET has no body"),
        ({"url": "https://a.example/", "parameters": {"x": {"in": "path"}}}, {}, "http.parameters.x.in", "no place {x}"),
        ({"url": "https://a.example/", "parameters": {"x": {"type": "wrong"}}}, {}, "http.parameters.x", "not a JSON Schema"),
        ({"url": "https://a.example/", "parameters": {"Host": {"in": "header"}}}, {}, "http.parameters.Host", "not a header"),
        (
            {"url": "https://a.example/", "token": {"secret": "K"}, "headers": {"Authorization": "x"}},
            {}, "http.token", "already",
        ),
        ({"url": "https://a.example/", "headers": {"a b": "x"}}, {}, "http.headers.a b", "not a header"),
        ({"url": "https://a.example/", "hosts": ["https://a.example"]}, {}, "http.hosts.0", "write a host"),
        ({"url": "https://a.example/", "result": "$..a"}, {}, "http.result", "not understood"),
        ({"url": "https://a.example/"}, {"description": None}, "description", "missing"),
        ({"url": "https://a.example/"}, {"allow": ["x"]}, "allow", "not a group"),
        ({"url": "https://a.example/"}, {"config": {"x": 1}}, "config", "no settings"),
    ],
)  # fmt: skip
def test_faults_of_the_spec_have_their_place(http: dict[str, Any], more: dict[str, Any], at: str, says: str) -> None:
    faults = {".".join(map(str, fault.path)): fault.message for fault in PLUGIN.check(item(http, **more))}
    assert any(path.startswith(at) and says in message for path, message in faults.items()), faults


def test_two_kinds_of_tool_are_two_tools() -> None:
    with pytest.raises(ValidationError, match="'python' and 'http' are two tools"):
        Tool.model_validate({"python": "a.py", "http": {"url": "https://a.example"}})
    with pytest.raises(ValidationError, match="say what it is"):
        Tool.model_validate({})
    with pytest.raises(ValidationError, match="is run by inline::http"):
        Tool.model_validate({"provider": "remote::mcp", "http": {"url": "https://a.example"}})


def test_urls_are_read_one_way() -> None:
    url = parse("HTTPS://Api.Example:8443/a/b?c=d%20e#f")
    assert (url.scheme, url.host, url.port, url.target) == ("https", "api.example", 8443, "/a/b?c=d%20e")
    assert parse("http://a.example").target == "/" and parse("http://a.example?x=1").target == "/?x=1"
    assert parse("http://[2606:4700::1111]/").authority == "[2606:4700::1111]"
    assert joined(url, "c?x=1").target == "/a/c?x=1" and joined(url, "/c").port == 8443
    with pytest.raises(UrlError):
        parse("http://a.example/" + "x" * 2048)


def test_paths_into_json() -> None:
    assert steps("$.a[0].b-c[*]['d e']") == ["a", 0, "b-c", None, "d e"]
    assert pick({"a": [{"b": 1}, {"b": 2}, {}]}, steps("a[*].b")) == [1, 2]
    for wrong in ("$..a", "a b", "[x]", "$.a.", "[-1]"):
        with pytest.raises(ValueError, match="not understood"):
            steps(wrong)
