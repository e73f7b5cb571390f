"""Which hosts of a tool may be asked, and at which of their addresses: a name is resolved once, what was checked is used."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from lsbuild_plugins.http_tool.serve.addresses import allowed
from lsbuild_plugins.http_tool.serve.weburl import PORTS, Url
from lsbuild_runtime.http import Context

Resolve = Callable[[str, int], Sequence[str]]
"""``(host, port) -> addresses``; raises OSError."""


class Refused(Exception):
    """A request that is not made; the text is for the model."""


class Guard(Struct, frozen=True):
    """``hosts`` as in the spec; with ``private`` those that are named in full may have private addresses."""

    hosts: tuple[str, ...]
    private: bool
    resolve: Resolve

    def addresses(self, url: Url, context: Context, end: float) -> list[str]:
        """The addresses that ``url`` may be asked at, in the resolver's order. Refused when there is none."""
        entry = next((host for host in self.hosts if _covers(host, url)), None)
        if entry is None:
            raise Refused(f"{url.authority} is not a host that this tool may ask")
        private = self.private and not entry.startswith("*")
        found = [url.host] if _literal(url.host) else self._resolved(url, context, end)
        fitting = [address for address in found if allowed(address, private=private)]
        if not fitting:
            raise Refused(f"{url.host} has no address that this tool may connect to")
        return fitting

    def _resolved(self, url: Url, context: Context, end: float) -> Sequence[str]:
        """In a thread, since a resolver cannot be interrupted and may take longer than the call has."""
        answers: list[Sequence[str]] = []
        done = threading.Event()

        def ask() -> None:
            try:
                answers.append(tuple(dict.fromkeys(self.resolve(url.host, url.port))))
            except (OSError, UnicodeError):
                answers.append(())
            finally:
                done.set()

        threading.Thread(target=ask, daemon=True, name="resolve").start()
        while not done.wait(0.02):
            context.check()
            if time.monotonic() > end:
                raise Refused(f"the name {url.host} could not be resolved in time")
        if not answers or not answers[0]:
            raise Refused(f"there is no host {url.host}")
        return answers[0]


def system_resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that the system knows."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def host_fault(entry: str) -> str:
    """What is wrong with an entry of ``hosts``, or ""."""
    host, colon, port = entry.rpartition(":") if entry.rpartition(":")[2].isdecimal() else (entry, "", "")
    if colon and not 1 <= int(port) <= 65535:
        return "its port is not in 1..65535"
    plain = host.removeprefix("*.") if host != "*" else "x"
    if any(sign in plain for sign in "*/?#@\\ %") or not plain.isascii() or not plain or plain != plain.lower():
        return "write a host such as api.example.com, *.example.com or *, in lower case, with a port if it has one"
    return ""


def _covers(entry: str, url: Url) -> bool:
    """Whether an entry of ``hosts`` is the url's host and port; without a port it means those of http and https."""
    host, colon, port = entry.rpartition(":") if entry.rpartition(":")[2].isdecimal() else (entry, "", "")
    if url.port != int(port) if colon else url.port != PORTS[url.scheme]:
        return False
    host = host.strip("[]")
    return host in ("*", url.host) or (host.startswith("*.") and url.host.endswith(host[1:]))


def _literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


def names(entries: Iterable[str]) -> str:
    """The hosts for people and models."""
    return ", ".join("any public host" if entry == "*" else entry for entry in entries)
