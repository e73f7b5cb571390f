"""The one reader of URLs of HTTP tools: what it gives is what is resolved, checked, connected to and sent; pure.

It takes less than the standards do. A URL that two readers could read differently (a backslash, a user, a number as a
host, anything that is not printable ASCII) is none.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

LONGEST = 2048
PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.DOTALL)
_SAFE = re.compile(r"[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]+")
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.|$)){4}")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class UrlError(ValueError):
    """Not a URL that this tool takes; the text says why, without the URL."""


class Url(Struct, frozen=True):
    """``host`` is lower case, an IPv6 address without brackets; ``target`` is path and query as they are sent."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """For the Host header: with the port when it is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return (self.scheme, self.host, self.port)


def parse(text: str) -> Url:
    """The URL in ``text``. UrlError says what is wrong with it."""
    if len(text) > LONGEST:
        raise UrlError(f"the URL has more than {LONGEST} characters")
    if not _SAFE.fullmatch(text):
        raise UrlError("the URL holds a sign that has to be percent-encoded, or is empty")
    found = _URL.fullmatch(text)
    if found is None:
        raise UrlError("the URL does not begin with http:// or https://")
    if _ESCAPE.search(text):
        raise UrlError("the URL holds a % that begins no percent-encoding")
    scheme: Literal["http", "https"] = "https" if found[1].lower() == "https" else "http"
    place = _AUTHORITY.fullmatch(found[2].lower())
    if place is None:
        raise UrlError("the URL names no plain host (no user, no escapes, other alphabets as xn--)")
    host = _ipv6(place[1]) if place[1] else _name(place[2])
    port = int(place[3]) if place[3] else PORTS[scheme]
    if not 1 <= port <= 65535:
        raise UrlError("the URL's port is not in 1..65535")
    rest = found[3]
    if any(sign in rest for sign in "[]"):
        raise UrlError("the URL holds a bracket that has to be percent-encoded")
    return Url(scheme, host, port, rest if rest.startswith("/") else f"/{rest}")


def joined(base: Url, location: str) -> Url:
    """Where a redirect from ``base`` leads: a whole URL or a path of the same host. UrlError for any other form."""
    if location.startswith(("//", "/\\")):
        raise UrlError("the redirect leaves its scheme open")
    if location.startswith("/"):
        return parse(f"{base.scheme}://{base.authority}{location}")
    if "://" in location:
        return parse(location)
    if ":" in location.partition("/")[0]:
        raise UrlError("the redirect leads to another scheme")
    folder = base.target.partition("?")[0].rpartition("/")[0]
    return parse(f"{base.scheme}://{base.authority}{folder}/{location}")


def _name(host: str) -> str:
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if not _IPV4.fullmatch(host):
            raise UrlError("the URL's host is a number that is no address of four decimal parts")
        return host
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlError("the URL's host is no name")
    return host


def _ipv6(text: str) -> str:
    from ipaddress import AddressValueError, IPv6Address  # most hosts are names

    try:
        return str(IPv6Address(text))
    except AddressValueError as error:
        raise UrlError("the URL's host is no IPv6 address") from error
