"""`remote::mcp` against servers of the official SDK, over stdio and HTTP, and against one that misbehaves in every way."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lsbuild.api import Given, Item, Source, SourceError, SourceFile
from lsbuild.spec.model import Tool
from lsbuild_plugins.mcp.compile import ask
from lsbuild_plugins.mcp.plugin import PLUGIN
from lsbuild_plugins.mcp.serve import McpTools, Terms, connector, definitions
from lsbuild_plugins.mcp.serve.messages import Expired, Gone
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.tools import ToolResult
from lsbuild_runtime.watch import JsonWatch

SDK = Path(__file__).parents[2] / "mcp_server.py"
ODD = Path(__file__).with_name("odd_server.py")


def odd(how: str = "", *words: str, **env: str) -> dict[str, Any]:
    return {"command": [sys.executable, "-I", str(ODD), how, *words], "env": env, "timeout": 20.0}


PINNED = definitions.read(ask(json.dumps(odd()), Path("/")))


class Clock:
    """Time as the test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def served(
    config: dict[str, Any], pinned: Any = PINNED, clock: Any = time.monotonic, **terms: Any
) -> Iterator[McpTools]:
    tools = McpTools(Terms("odd", **terms), pinned, connector(config, Path("/")), config.get("timeout", 20.0), clock)
    try:
        yield tools
    finally:
        tools.close()


def call(tools: McpTools, name: str = "echo", context: Context | None = None, **arguments: Any) -> ToolResult:
    return tools.call(name, arguments, context or Context())


@contextmanager
def over_http(*words: str, **env: str) -> Iterator[str]:
    """The URL of the SDK's server."""
    process = subprocess.Popen(
        [sys.executable, str(SDK), "--http", *words], stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module", params=["stdio", "http"])
def sdk(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The official server by each transport."""
    if request.param == "stdio":
        yield {"command": [sys.executable, str(SDK)], "env": {"PUMP_KEY": "k"}, "timeout": 30.0}
        return
    with over_http(MCP_TOKEN="t-1") as url:
        yield {"url": url, "token": "t-1", "timeout": 30.0}


def test_the_official_server(sdk: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN_FROM_TOOLS", "hidden")
    with served(sdk, None) as tools:
        names = {each.name for each in tools.tools(Context())}
        assert names == {"dies", "echo", "fails", "picture", "pressure", "secret", "slow"}
        (info,) = [each for each in tools.tools(Context()) if each.name == "pressure"]
        assert info.description == "Reads the pressure of a pump." and info.parameters["required"] == ["pump"]
        result = call(tools, "pressure", pump="p1", factor=2)
        assert result.structured == {"pump": "p1", "bar": 5.0} and json.loads(result.text) == result.structured
        assert call(tools, "echo", text="äh\n\u2028").text == "äh\n\u2028"
        assert call(tools, "picture").text == "[image: image/png, 9 bytes, not shown]"
        failed = call(tools, "fails")
        assert failed.failed and "the pump is dry" in failed.text
        assert call(tools, "pressure").failed  # the server's own validation
        threads = [
            threading.Thread(target=lambda: found.append(call(tools, "slow", seconds=0.2).text)) for _ in range(4)
        ]
        found: list[str] = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == ["waited"] * 4
        if "command" in sdk:
            assert call(tools, "secret").text == "k "
            assert "ended with exit code 7" in call(tools, "dies").text
        else:
            with pytest.raises(SourceError, match=r"wants another token \(it answered 401\)"):
                ask(json.dumps({**sdk, "token": "t-2"}), Path("/"))
            pinned = definitions.read(ask(json.dumps(sdk), Path("/")))
            assert [each.name for each in pinned] == sorted(names)


def test_names_are_made_what_models_can_call() -> None:
    with served(odd()) as tools:
        assert [each.name for each in tools.tools(Context())] == ["echo", "files_read_all"]
        assert call(tools, "files_read_all", text="x").text == "x"
        with pytest.raises(ApiError, match=r"no tool 'files/read\.all'"):
            call(tools, "files/read.all")
    with served(odd(), allow=("files/read.all",), trusted=True, sends="nothing", approval=True) as tools:
        (info,) = tools.tools(Context())
        assert (info.name, info.trusted, info.sends, info.approval) == ("files_read_all", True, "nothing", True)
        with pytest.raises(ApiError, match="no tool 'echo'"):
            call(tools)


def test_nothing_is_started_before_the_first_call(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with served(odd(SEEN=str(seen))) as tools:
        assert len(tools.tools(Context())) == 2 and not seen.exists()
        call(tools, text="x")
        call(tools, text="x")
    assert seen.read_text().split() == [
        "initialize",
        "notifications/initialized",
        "tools/list",
        "tools/call",
        "tools/call",
    ]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("dies", "the server ended with exit code 3"),
        ("ends", "the server ended with exit code 5"),
        ("huge", "a message of more than"),
        ("flood", "messages that nobody asked for"),
        ("old", "speaks revision '1999-01-01'"),
        ("endless", "more than 50 pages"),
        ("many", "more than 512 tools"),
        ("nonsense", "list of tools is not understood"),
        ("no-result", "neither a result nor an error"),
        ("no-object", "is no object"),
        ("error", "the server says: no such pump"),
    ],
)  # fmt: skip
def test_a_server_that_misbehaves_is_a_failed_result(how: str, says: str) -> None:
    with served(odd(how)) as tools:
        result = call(tools, text="x")
        assert result.failed and says in result.text and result.text.startswith("echo failed: ")


@pytest.mark.parametrize("how", ["garbage", "wrong-ids", "pages"])
def test_noise_is_passed_over(how: str) -> None:
    with served(odd(how)) as tools:
        assert call(tools, text="x") == ToolResult("x")


def test_what_the_server_asks_of_us_is_answered() -> None:
    with served(odd("asks")) as tools:
        assert call(tools, text="").text == "{} -32601"


def test_kinds_of_content() -> None:
    with served(odd("kinds")) as tools:
        lines = call(tools).text.split("\n")
        assert lines == [
            "[audio: audio/wav, 3 bytes, not shown]",
            "inner",
            "[resource: not text, not shown]",
            "[resource: x]",
        ]
    with served(odd("structured")) as tools:
        assert call(tools) == ToolResult('{"a":1}', structured={"a": 1})
    with served(odd("long")) as tools:
        assert call(tools).text.endswith("[cut: 100000 more characters]")


def test_an_answer_that_does_not_come(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with served({**odd("mute", SEEN=str(seen)), "timeout": 0.3}) as tools:
        assert "no answer within 0.3 s" in call(tools).text
        context = Context()
        threading.Timer(0.1, context.cancel.set).start()
        with pytest.raises(Cancelled):
            call(tools, context=context)
        with pytest.raises(ApiError, match="deadline"):
            call(tools, context=Context(deadline=time.monotonic() + 0.1))
    assert seen.read_text().count("notifications/cancelled") == 3 and seen.read_text().count("initialize\n") == 1


def test_a_program_that_cannot_be_started() -> None:
    with served({"command": ["/no/such/program"]}) as tools:
        assert "the program '/no/such/program' cannot be started: No such file" in call(tools).text


def test_a_server_that_fails_is_tried_again_later_and_later() -> None:
    clock = Clock()
    with served(odd("dies"), clock=clock) as tools:
        assert "exit code 3" in call(tools).text
        assert "exit code 3" in call(tools).text  # once at once
        assert "failed 2 times and is tried again in 1 s" in call(tools).text
        clock.now += 2
        assert "exit code 3" in call(tools).text
        assert "failed 3 times and is tried again in 2 s" in call(tools).text


def test_a_changed_definition_is_refused_and_says_what_changed() -> None:
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    with served(odd("changed")) as tools, watch.span("call"):
        result = call(tools, context=Context(watch=watch), text="x")
        assert result.failed and "'echo' of 'odd' is refused: its description changed since the build" in result.text
        assert "its schema changed" in call(tools, "files_read_all").text
        assert tools.tools(Context()) == ()
    (spans,) = [json.loads(line)["spans"] for line in lines]
    assert {"echo: its description", "files/read.all: its schema"} == set(
        next(span["lsbuild.tool.refused"] for span in spans if "lsbuild.tool.refused" in span)
    )


def test_one_that_is_gone_is_refused_and_an_added_one_is_not_seen() -> None:
    with served(odd("gone")) as tools:
        assert "is refused: it is gone" in call(tools, "files_read_all").text
        assert call(tools, text="x").text == "x"
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    with served(odd("added")) as tools, watch.span("call"):
        assert call(tools, context=Context(watch=watch), text="x").text == "x"
        assert [each.name for each in tools.tools(Context())] == ["echo", "files_read_all"]
        with pytest.raises(ApiError, match="no tool 'extra'"):
            call(tools, "extra")
    assert '"lsbuild.tool.added":["extra"]' in lines[0]


def test_definitions_are_looked_at_again(tmp_path: Path) -> None:
    seen, clock = tmp_path / "seen", Clock()
    with served(odd(SEEN=str(seen)), clock=clock) as tools:
        call(tools)
        clock.now += 61
        call(tools)
    assert seen.read_text().count("tools/list") == 2


@pytest.mark.parametrize(("terms", "vouched"), [({}, False), ({"trusted": True}, True)])
def test_definitions_without_a_pin_are_vouched_for_by_trust_alone(terms: dict[str, Any], vouched: bool) -> None:
    with served(odd(), pinned=None, **terms) as tools:
        assert {info.vouched for info in tools.tools(Context())} == {vouched}
    with served(odd()) as tools:
        assert all(info.vouched for info in tools.tools(Context()))


def test_without_a_pin_the_server_is_asked() -> None:
    with served(odd("added"), pinned=None) as tools:
        assert [each.name for each in tools.tools(Context())] == ["echo", "files_read_all", "extra"]
        assert call(tools, "extra", text="x").text == "x"
    with served(odd("ends"), pinned=None) as tools, pytest.raises(ApiError) as caught:
        tools.tools(Context())
    assert caught.value.status == 503 and "the tools of 'odd' cannot be listed" in caught.value.message


class Pages:
    """An HTTP server that answers each POST as a list says."""

    def __init__(self, answers: list[Any]) -> None:
        self.asked: list[tuple[dict[str, str], Any]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.asked.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if "id" not in body or body["method"].startswith("notifications/"):
                    self.send_response(202)
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                answers.pop(0)(self, body["id"])

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def plain(result: Any, status: int = 200, **more: str) -> Any:
    """Header names with _ for -."""
    headers = {name.replace("_", "-"): value for name, value in more.items()}

    def answer(handler: Any, number: int) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()
        handler.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def raw(text: bytes, kind: str = "text/event-stream") -> Any:
    def answer(handler: Any, number: int) -> None:
        handler.send_response(200)
        handler.send_header("content-type", kind)
        handler.end_headers()
        try:
            handler.wfile.write(text.replace(b"ID", str(number).encode()))
        except OSError:
            return

    return answer


BEGIN = plain({"protocolVersion": "2025-06-18"}, mcp_session_id="s-1")
LIST = plain({"tools": json.loads(definitions.written(PINNED))})


@contextmanager
def pages(*answers: Any) -> Iterator[tuple[Pages, McpTools]]:
    found = Pages([BEGIN, LIST, *answers])
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with served(
            {"url": f"http://127.0.0.1:{found.server.server_port}/mcp", "timeout": 1.0, "headers": {"X-A": "b"}}
        ) as tools:
            yield found, tools
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()


def test_a_session_over_http_keeps_its_id_and_revision() -> None:
    with pages(plain({"content": [{"type": "text", "text": "x"}]})) as (server, tools):
        assert call(tools).text == "x"
        headers = server.asked[-1][0]
        assert (headers["mcp-session-id"], headers["mcp-protocol-version"], headers["x-a"]) == (
            "s-1",
            "2025-06-18",
            "b",
        )
        assert "mcp-session-id" not in server.asked[0][0]


def test_an_expired_session_is_begun_again_once() -> None:
    done = plain({"content": [{"type": "text", "text": "x"}]})
    with pages(plain({}, 404), BEGIN, LIST, done) as (server, tools):
        assert call(tools).text == "x"
        assert [body["method"] for _, body in server.asked].count("initialize") == 2


def test_streams_of_events() -> None:
    stream = (
        b': comment\r\n\r\nevent: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress"}\r\n\r\n'
        b'id: 7\ndata: {"jsonrpc":"2.0",\ndata:  "id":ID,"result":{"content":[{"type":"text","text":"x"}]}}\n\n'
    )
    with pages(raw(stream)) as (_, tools):
        assert call(tools).text == "x"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (raw(b"data: {}\n\n"), "is not in what it sent"),
        (raw(b"garbage", "application/json"), "is not in what it sent"),
        (raw(b""), "is not in what it sent"),
        (raw(b"data: " + b"x" * (9 << 20)), "more than 8388608 bytes"),
        (raw(b'data: {"method":"a"}\n\n' * 2000), "messages that nobody asked for"),
        (plain({}, 500), "the server answered 500"),
        (plain({}, 307, location="http://127.0.0.1:9/"), "the server answered 307"),
        (lambda *_: time.sleep(1.5), "no answer within 1 s"),
    ],
)  # fmt: skip
def test_what_goes_wrong_over_http_is_a_failed_result(answer: Any, says: str) -> None:
    with pages(answer) as (_, tools):
        result = call(tools)
        assert result.failed and says in result.text


def test_a_server_that_is_not_there() -> None:
    with served({"url": "http://127.0.0.1:9/mcp"}) as tools:
        assert "the server cannot be reached (Connection refused)" in call(tools).text
    with served({"url": "ftp://x/"}) as tools:
        assert "no http or https URL" in call(tools).text


def item(mcp: dict[str, Any], **more: Any) -> Item:
    spec = Tool.model_validate({"mcp": mcp, **more})
    return Item("tools", "odd", spec.provider, spec, Path())


def test_the_definitions_are_a_source_and_the_tools_are_known_at_build(tmp_path: Path) -> None:
    entry = item({"command": ["mcp-odd", "--ro"], "env": {"KEY": {"secret": "ODD_KEY"}}}, allow=["files/read.all"])
    assert list(PLUGIN.check(entry)) == []
    (uri,) = PLUGIN.sources(entry).values()
    assert uri == 'mcp:odd{"command":["mcp-odd","--ro"],"env":{"KEY":{"secret":"ODD_KEY"}},"timeout":30.0}'
    place = tmp_path / "definitions.json"
    place.write_bytes(definitions.written(PINNED))
    source = Source(uri, (SourceFile("definitions.json", place, "0" * 64, 1),))
    (service,) = PLUGIN.compile(entry, Given({"definitions": source})).services
    assert service.metadata["tools"] == ["files_read_all"] and service.metadata["sends"] == "external"
    with pytest.raises(SourceError, match="allow names 'nothing'"):
        PLUGIN.compile(item({"command": ["x"]}, allow=["nothing"]), Given({"definitions": source}))
    assert PLUGIN.sources(item({"command": ["x"]}, pin=False)) == {}


@pytest.mark.parametrize(
    ("how", "says"), [("broken-schema", "no JSON Schema"), ("twins", "'a_b'"), ("ends", "exit code 5")]
)
def test_a_server_that_cannot_be_pinned_fails_the_build(how: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        ask(json.dumps(odd(how)), Path("/"))
    assert says in caught.value.what and "odd_server.py" in caught.value.where


def test_a_secret_that_is_missing_at_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ODD_KEY", raising=False)
    with pytest.raises(SourceError, match="set the environment variable ODD_KEY"):
        ask(json.dumps({**odd(), "env": {"KEY": {"secret": "ODD_KEY"}}}), Path("/"))


def test_faults_of_the_spec() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "either command or url"),
        ({"command": ["x"], "url": "https://x"}, "either command or url"),
        ({"command": ["x"], "token": {"secret": "T"}}, "are for a url"),
        ({"url": "https://x", "env": {"A": "b"}}, "env is for a command"),
    ]
    for mcp, says in cases:
        with pytest.raises(ValidationError, match=says):
            item(mcp)
    cases = [
        ({"url": "ftp://x"}, "no http or https URL"),
        ({"url": "https://u:p@x/"}, "holds a password"),
        ({"url": "https://x", "headers": {"a b": "c"}}, "not the name of an HTTP header"),
    ]
    for mcp, says in cases:
        (fault,) = PLUGIN.check(item(mcp))
        assert says in fault.message


class Mortal:
    """A transport whose calls wait until it dies; ``heard`` false is one that was dead before it had the call."""

    def __init__(self, heard: bool = True, alive: bool = False) -> None:
        self.under_way = threading.Semaphore(0)
        self.died = threading.Event()
        self._heard = heard
        self._well = alive

    def request(self, number: int, body: bytes, context: Context, seconds: float) -> Any:  # noqa: ARG002 - the port
        method = json.loads(body)["method"]
        if method == "initialize":
            return {"protocolVersion": "2025-06-18"}
        if method == "tools/list":
            return {"tools": json.loads(definitions.written(PINNED))}
        if self._well:
            return {"content": [{"type": "text", "text": "x"}]}
        if not self._heard:
            raise Expired("the server has ended")
        self.under_way.release()
        assert self.died.wait(30)
        raise Gone("the server ended of signal 9")

    def notify(self, body: bytes) -> None: ...

    def spoken(self, revision: str) -> None: ...

    def alive(self) -> bool:
        return not self.died.is_set()

    def close(self) -> None:
        self.died.set()


def test_a_death_counts_once_however_many_calls_were_under_way() -> None:
    first, second = Mortal(), Mortal(alive=True)
    begun = iter([first, second])
    tools = McpTools(Terms("odd"), PINNED, lambda: next(begun), 20.0, Clock())
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(call, tools) for _ in range(3)]
        for _ in answers:
            assert first.under_way.acquire(timeout=30)
        first.died.set()
        assert {each.result(30).text for each in answers} == {"echo failed: the server ended of signal 9."}
    assert call(tools).text == "x"  # begun again at once, with a clock that stands still
    tools.close()


def test_a_call_that_a_dead_server_never_heard_is_made_in_a_new_session() -> None:
    begun = iter([Mortal(heard=False), Mortal(alive=True)])
    tools = McpTools(Terms("odd"), PINNED, lambda: next(begun), 20.0, Clock())
    assert call(tools).text == "x"
    tools.close()
