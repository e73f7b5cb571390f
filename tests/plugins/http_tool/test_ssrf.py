"""URLs that lead inside: none of the corpus makes a connection, seen by a listener and by every connect of this process."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lsbuild_plugins.http_tool.serve import HttpTool, Parameter, Request
from lsbuild_plugins.http_tool.serve.addresses import allowed
from lsbuild_plugins.http_tool.serve.exchange import dial
from lsbuild_runtime.http import Context
from lsbuild_runtime.tools import ToolInfo, ToolResult

CORPUS = [json.loads(line) for line in Path(__file__).with_name("ssrf.jsonl").read_text().splitlines()]
PUBLIC = "93.184.215.14"
"""An address that may be asked; the tests lead it to a server of their own."""
NAMES = {
    "ten.example": ["10.0.0.1"],
    "cgnat.example": ["100.64.1.1"],
    "linklocal.example": ["169.254.169.254"],
    "ula.example": ["fd12::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "multicast.example": ["224.0.0.251"],
    "zone.example": ["fe80::1%lo"],
    "mixed.example": ["127.0.0.1", "::1", "10.0.0.1"],
}
_connects: list[Any] = []
_watching = threading.Event()


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watching.is_set():
        _connects.append(arguments[1])


sys.addaudithook(_heard)


@contextmanager
def connects() -> Iterator[list[Any]]:
    """Every address that this process connects to meanwhile, by whatever way."""
    _connects.clear()
    _watching.set()
    try:
        yield _connects
    finally:
        _watching.clear()


@dataclass
class Victim:
    """A server inside that nobody may reach: it listens on both loopbacks and counts who came."""

    port: int = 0
    came: int = 0
    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret"
    _sockets: list[socket.socket] = field(default_factory=list)

    def start(self) -> None:
        self._sockets.append(socket.create_server(("127.0.0.1", 0)))
        self.port = self._sockets[0].getsockname()[1]
        if socket.has_ipv6:
            with suppress(OSError):  # a machine without IPv6
                self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for listener in self._sockets:
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        for listener in self._sockets:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            self.came += 1
            with peer:
                peer.recv(65536)
                peer.sendall(self.answer)


@contextmanager
def serving(answer: bytes | None = None) -> Iterator[Victim]:
    victim = Victim()
    if answer is not None:
        victim.answer = answer
    victim.start()
    try:
        yield victim
    finally:
        victim.stop()


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with serving() as found:
        yield found


def inside(host: str, port: int) -> Sequence[str]:
    """A resolver for which every name is something inside."""
    return NAMES.get(host, ["127.0.0.1"])


def fetcher(port: int, *, resolve: Any = inside, dialled: Any = None, **more: Any) -> HttpTool:
    """A tool whose URL the model chooses, which may ask any host at the ports of the web and at ``port``."""
    schema = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}
    settings = {"hosts": ("*", f"*:{port}"), "timeout": 5.0, **more}
    request = Request("{url}", "GET", parameters={"url": Parameter("path", {"type": "string"})}, **settings)
    return HttpTool(ToolInfo("fetch", "Fetches.", schema), request, resolve, dialled)


def fetch(tool: HttpTool, url: str) -> ToolResult:
    return tool.call("fetch", {"url": url}, Context())


def test_the_corpus_is_large_and_has_no_url_twice() -> None:
    urls = [entry["url"] for entry in CORPUS]
    assert len(urls) == len(set(urls)) >= 120


def test_no_url_of_the_corpus_makes_a_connection(victim: Victim) -> None:
    tool = fetcher(victim.port)
    came = victim.came
    with connects() as made:
        for entry in CORPUS:
            result = fetch(tool, entry["url"].replace("{port}", str(victim.port)))
            assert result.failed, entry
    assert made == [] and victim.came == came


def test_where_a_url_has_a_public_host_for_one_reader_only_that_one_is_asked(victim: Victim) -> None:
    """The same URLs, with public.example a real host: it may be asked, and nothing else is."""
    with serving(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") as public:
        asked: list[str] = []

        def dialled(address: str, port: int, seconds: float) -> socket.socket:
            asked.append(address)
            return dial("127.0.0.1", public.port, seconds)

        tool = fetcher(
            victim.port,
            resolve=lambda host, port: [PUBLIC] if host == "public.example" else inside(host, port),
            dialled=dialled,
        )
        came = victim.came
        for entry in CORPUS:
            fetch(tool, entry["url"].replace("{port}", str(victim.port)))
        assert set(asked) == {PUBLIC} and victim.came == came


REDIRECTS = [entry["url"] for entry in CORPUS if not {"\r", "\n"} & set(entry["url"]) and entry["url"].isascii()]


def test_no_redirect_to_a_url_of_the_corpus_is_followed(victim: Victim) -> None:
    came = victim.came
    for url in REDIRECTS:
        to = url.replace("{port}", str(victim.port))
        with serving(f"HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n".encode()) as public:
            asked: list[str] = []

            def dialled(
                address: str, port: int, seconds: float, asked: Any = asked, public: Any = public
            ) -> socket.socket:
                asked.append(address)
                return dial("127.0.0.1", public.port, seconds)

            tool = fetcher(
                victim.port,
                resolve=lambda host, port: [PUBLIC] if host == "start.example" else inside(host, port),
                dialled=dialled,
            )
            result = fetch(tool, "http://start.example/")
            # A relative redirect leads to the same public host again, until there were too many.
            assert result.failed and set(asked) == {PUBLIC}, (url, result)
    assert victim.came == came


def test_a_name_that_changes_its_mind_is_asked_once(victim: Victim) -> None:
    asked: list[str] = []
    dialled: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    came = victim.came
    with serving(b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n") as public:

        def dial_public(address: str, port: int, seconds: float) -> socket.socket:
            dialled.append(address)
            return dial("127.0.0.1", public.port, seconds)

        tool = fetcher(victim.port, resolve=rebinding, dialled=dial_public)
        assert fetch(tool, f"http://rebind.example:{victim.port}/").failed
    # One hop, one question, one address; the redirect is a new hop, whose new answer leads inside.
    assert dialled == [PUBLIC] and asked == ["rebind.example"] * 2 and victim.came == came


def test_of_several_addresses_only_those_that_are_public_are_tried(victim: Victim) -> None:
    dialled: list[str] = []

    def refusing(address: str, port: int, seconds: float) -> socket.socket:
        dialled.append(address)
        raise OSError("refused")

    found = ["127.0.0.1", PUBLIC, "::1", "169.254.169.254", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
    tool = fetcher(victim.port, resolve=lambda *_: found, dialled=refusing)
    assert "could not be connected to" in fetch(tool, "http://many.example/").text
    assert dialled == [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]


def test_the_harness_can_fail(victim: Victim) -> None:
    """The same request reaches the server inside as soon as the spec opens it by its name."""
    came = victim.came
    opened = fetcher(victim.port, hosts=(f"inside.example:{victim.port}",), private=True)
    with connects() as made:
        assert fetch(opened, f"http://inside.example:{victim.port}/").text == "secret"
    assert made == [("127.0.0.1", victim.port)] and victim.came == came + 1
    wild = fetcher(victim.port, private=True)
    assert fetch(wild, f"http://inside.example:{victim.port}/").failed and victim.came == came + 1


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.20.0.1", "100.64.0.1", "::1", "fd12::1"]
)
def test_a_spec_can_open_private_networks(address: str) -> None:
    assert allowed(address, private=True) and not allowed(address, private=False)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255",
     "::", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001::1", "fe80::1%eth0", "x", ""],
)  # fmt: skip
def test_nothing_opens_metadata_and_special_addresses(address: str) -> None:
    assert not allowed(address, private=True)


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_public_addresses_are_open(address: str) -> None:
    assert allowed(address, private=False)
