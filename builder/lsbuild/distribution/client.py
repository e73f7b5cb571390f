"""Asks one registry over HTTP: signs in as it demands, tries again when that helps, and says what it refused.

It knows requests and answers; what a blob or a manifest is stands in ``repository``. A login is sent to the registry and to
the server that it names for tokens, never along a redirect, and over plain http only to this machine or when asked to.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from lsbuild import web
from lsbuild.distribution.credentials import Login
from lsbuild.distribution.errors import DistributionError

if TYPE_CHECKING:
    import urllib3

CONNECT_S, READ_S = 15.0, 120.0
TRIES = 5
_BACKOFF_S, _LONGEST_S = 0.5, 30.0
_REDIRECTS = 5
_BLOCK = 1 << 18
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LARGEST_TEXT = 4 << 20

Body = Callable[[], Any]
"""Gives the body anew for each try: bytes, or an object with ``read``."""


class Broken(Exception):
    """The connection ended before the answer came; how much of the request arrived is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``headers`` are looked up without regard to case. ``stream`` is open only where one was asked for."""

    status: int
    url: str
    headers: Mapping[str, str]
    text: bytes = b""
    stream: urllib3.BaseHTTPResponse | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Host:
    """Which registry, and how: ``plain`` allows http without TLS; ``wait`` sleeps (seconds)."""

    name: str
    login: Login | None = None
    plain: bool = False
    wait: Callable[[float], None] = time.sleep

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, where http needs no TLS."""
        return web.is_loopback(urlsplit(f"//{self.name}").hostname or "")


class Client:
    """Connections to one registry and what it gave us to show. Not for several threads."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._url = ""
        self._shown: dict[tuple[str, ...], str] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Close every connection; the next request opens another."""
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()

    def ask(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        stream: bool = False,
    ) -> Answer:
        """``once``, again and again with growing pauses while the registry is out of reach or asks for patience."""
        said = ""
        for attempt in range(TRIES):
            try:
                answer = self.once(method, url, scopes, headers, body, stream=stream)
            except Broken as error:
                said = str(error)
                self.pause(attempt)
                continue
            if answer.status not in _TRY_AGAIN:
                return answer
            said = self.refused(answer)
            self.pause(attempt, answer)
        raise DistributionError(
            f"{self.host.name} does not answer: {said}",
            where=f"{method} {urlsplit(url).path}",
            hint="is the name right, and does it speak https? `lsbuild push --plain-http` is for one that does not",
        )

    def once(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        stream: bool = False,
    ) -> Answer:
        """One request, signed as the registry wants it. ``url`` may be a path. Raises Broken, DistributionError for a login."""
        place = urljoin(f"{self._base()}/", url)
        answer = self._send(method, place, self._signed(place, scopes, headers), body, stream=stream)
        if answer.status == 401 and self._is_ours(place):
            self._sign_in(answer, scopes)
            answer = self._send(method, place, self._signed(place, scopes, headers), body, stream=stream)
            if answer.status == 401:
                self._shown.pop(scopes, None)
        for _ in range(_REDIRECTS):
            if method not in ("GET", "HEAD") or answer.status not in (301, 302, 303, 307, 308):
                return answer
            place = self._followed(place, answer)
            answer = self._send(method, place, self._signed(place, scopes, headers), body, stream=stream)
        return answer

    def pause(self, attempt: int, answer: Answer | None = None) -> None:
        """Wait before another try: as long as the registry said, else longer each time."""
        told = (answer.headers.get("Retry-After") or "") if answer else ""
        longer = _BACKOFF_S * 2**attempt * (1 + random.random() / 4)
        self.host.wait(min(float(told) if told.isdecimal() else longer, _LONGEST_S))

    def refused(self, answer: Answer) -> str:
        """The status and the registry's own words."""
        try:
            errors = json.loads(answer.text)["errors"]
            said = "; ".join(f"{each.get('code', '')} {each.get('message', '')}".strip() for each in errors)
        except (ValueError, KeyError, TypeError, AttributeError):
            said = answer.text[:200].decode("utf-8", "replace").strip()
        return f"{answer.status} {said}".strip()

    def error(self, what: str, answer: Answer) -> DistributionError:
        """The error for an answer that ends it, with the way out for those about logins."""
        if answer.status not in (401, 403):
            return DistributionError(f"{what}: {self.host.name} answered {self.refused(answer)}")
        login = self.host.login
        who = f"as {login.user}" if login else "without a login"
        hint = f"`docker login {self.host.name}` (or podman login), or set DOCKER_AUTH_CONFIG"
        return DistributionError(f"{what}: {self.host.name} refuses that {who}: {self.refused(answer)}", hint=hint)

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body | None, *, stream: bool) -> Answer:
        import urllib3

        try:
            response = self._pool(url).request(
                method, url, headers=headers, body=body() if body else None, redirect=False, retries=False,
                preload_content=False,
            )  # fmt: skip
            if stream and response.status in (200, 206):
                return Answer(response.status, url, response.headers, stream=response)
            with closing(response):
                text = b"" if method == "HEAD" else response.read(_LARGEST_TEXT)
                response.drain_conn()
            return Answer(response.status, url, response.headers, text)
        except urllib3.exceptions.LocationValueError as error:
            raise DistributionError(f"{self.host.name} names a place that is no address: {url}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Broken(web.reason(error)) from error

    def _pool(self, url: str) -> urllib3.PoolManager:
        import urllib3

        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        if key not in self._pools:
            timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
            self._pools[key] = web.pool(url, timeout, blocksize=_BLOCK)
        return self._pools[key]

    def _signed(self, url: str, scopes: tuple[str, ...], headers: Mapping[str, str] | None) -> Mapping[str, str]:
        found = {"User-Agent": "lsbuild", **(headers or {})}
        if self._is_ours(url) and scopes in self._shown:
            found["Authorization"] = self._shown[scopes]
        return found

    def _is_ours(self, url: str) -> bool:
        one, other = urlsplit(url), urlsplit(self._base())
        return (one.scheme, one.netloc) == (other.scheme, other.netloc)

    def _base(self) -> str:
        """``https://HOST``; http where it was allowed, and with this machine unless that speaks TLS."""
        if not self._url:
            plain = self.host.plain or (self.host.is_here and self._speaks_http())
            self._url = f"{'http' if plain else 'https'}://{self.host.name}"
        return self._url

    def _speaks_http(self) -> bool:
        """A server that expects TLS answers 400: Go's and nginx do. Raises Broken."""
        return self._send("GET", f"http://{self.host.name}/v2/", {}, None, stream=False).status != 400

    def _followed(self, url: str, answer: Answer) -> str:
        place = urljoin(url, answer.headers.get("Location") or "")
        if urlsplit(place).scheme not in ("http", "https") or (url.startswith("https:") and place.startswith("http:")):
            raise DistributionError(f"{self.host.name} redirects to {place}, which is less safe")
        return place

    def _sign_in(self, answer: Answer, scopes: tuple[str, ...]) -> None:
        """Do what ``WWW-Authenticate`` says (RFC 7235; Docker's token server). Raises DistributionError when that fails."""
        challenge = answer.headers.get("WWW-Authenticate") or ""
        kind, _, rest = challenge.partition(" ")
        login = self.host.login
        if kind.lower() == "bearer":
            self._shown[scopes] = f"Bearer {self._token(dict(_CHALLENGE.findall(rest)), scopes)}"
        elif login is None:
            raise self.error("cannot sign in", answer)
        elif kind.lower() == "basic":
            self._shown[scopes] = login.basic
        else:
            raise DistributionError(f"{self.host.name} wants to be signed in to by {kind or 'nothing that it names'}")

    def _token(self, given: Mapping[str, str], scopes: tuple[str, ...]) -> str:
        realm, login = given.get("realm", ""), self.host.login
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and (self.host.plain or web.is_loopback(parts.hostname or ""))
        ):
            raise DistributionError(f"{self.host.name} names {realm!r} for tokens, which is not https")
        asked = [("service", given.get("service", "")), *(("scope", scope) for scope in scopes)]
        if login is not None and login.identity:
            form = {"grant_type": "refresh_token", "refresh_token": login.identity, "client_id": "lsbuild"}
            body = urlencode([*form.items(), asked[0], ("scope", " ".join(scopes))]).encode()
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._patiently("POST", realm, kind, lambda: body)
        else:
            signed = {"Authorization": login.basic} if login else {}
            url = f"{realm}{'&' if parts.query else '?'}{urlencode(asked)}"
            answer = self._patiently("GET", url, signed, None)
        if answer.status != 200:
            raise self.error(f"no token from {parts.netloc}", answer)
        try:
            value = json.loads(answer.text)
            token = value.get("token") or value["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            raise DistributionError(f"{parts.netloc} answered something that is no token") from error
        return str(token)

    def _patiently(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> Answer:
        """``_send`` for the server of tokens, which is tried again like the registry itself."""
        for attempt in range(TRIES):
            try:
                answer = self._send(method, url, headers, body, stream=False)
            except Broken as error:
                said = str(error)
            else:
                if answer.status not in _TRY_AGAIN:
                    return answer
                said = self.refused(answer)
            self.pause(attempt)
        raise DistributionError(f"{urlsplit(url).netloc} gives no tokens: {said}")
