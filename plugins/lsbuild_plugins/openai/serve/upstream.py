"""The way to another server: connections, streams, and what its failures mean to our clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import urllib3
from urllib3 import exceptions
from urllib3.util import Timeout

from lsbuild_plugins.openai.serve.answers import FAULTY, Fault
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service

T = TypeVar("T")
LONGEST_EVENT = 16 << 20
"""Bytes of one event of a stream; a longer one is an upstream fault."""


class Upstream:
    """One model of another server. Every failure becomes an ApiError that names the provider; see ``fault``."""

    def __init__(self, service: Service) -> None:
        config = service.config
        url = urllib3.util.parse_url(config["base_url"])
        if url.scheme not in ("http", "https") or not url.host:
            raise ApiError(
                503, f"{service.name}: base_url {config['base_url']!r} is not an http or https URL", type="server_error"
            )
        self.name = service.name
        self.model: str = config["model"]
        self.tokens_parameter: str = config.get("tokens_parameter", "max_tokens")
        self._prefix = (url.path or "").rstrip("/")
        self._timeout = float(config.get("timeout", 60.0))
        self._headers = {"content-type": "application/json", "accept-encoding": "identity", **config.get("headers", {})}
        if "api_key" in config:
            self._headers["authorization"] = f"Bearer {config['api_key']}"
        kind = urllib3.HTTPSConnectionPool if url.scheme == "https" else urllib3.HTTPConnectionPool
        self._pool = kind(url.host, url.port, maxsize=config.get("connections", 64), block=False)

    def whole(self, path: str, body: Mapping[str, Any], decoder: msgspec.json.Decoder[T], context: Context) -> T:
        """POST and decode the complete answer."""
        response = self._send(path, body, context)
        try:
            data = response.read()
        except exceptions.HTTPError as error:
            raise self._unreachable(error, context) from error
        finally:
            response.release_conn()
        return self._decoded(data, decoder)

    def events(
        self, path: str, body: Mapping[str, Any], decoder: msgspec.json.Decoder[T], context: Context
    ) -> Iterator[T]:
        """POST and decode each ``data:`` line as it comes; closing the iterator closes the connection."""
        response = self._send(path, body, context)
        done = False
        try:
            for line in self._lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    done = True
                    break
                context.check()
                yield self._decoded(data, decoder)
            if not done:
                raise self.broken("the stream ended before [DONE]")
            response.drain_conn()
        except exceptions.HTTPError as error:
            raise self._unreachable(error, context) from error
        finally:
            if done:
                response.release_conn()
            else:
                response.close()

    def _lines(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        rest = b""
        while data := response.read1(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LONGEST_EVENT:
                raise self.broken(f"an event is longer than {LONGEST_EVENT} bytes")
            yield from lines
        yield rest

    def _send(self, path: str, body: Mapping[str, Any], context: Context) -> urllib3.BaseHTTPResponse:
        data = msgspec.json.encode(body)
        try:
            try:
                response = self._post(path, data)
            except exceptions.ProtocolError:
                # A kept connection may have been closed over there just now. Nothing was answered, and to generate
                # twice changes nothing, so it is asked once more.
                context.check()
                response = self._post(path, data)
        except exceptions.HTTPError as error:
            raise self._unreachable(error, context) from error
        if response.status != 200:
            raise self._refused(response)
        return response

    def _post(self, path: str, data: bytes) -> urllib3.BaseHTTPResponse:
        return self._pool.urlopen(
            "POST",
            self._prefix + path,
            body=data,
            headers=self._headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=min(10.0, self._timeout), read=self._timeout),
            preload_content=False,
            decode_content=True,
        )

    def _decoded(self, data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        try:
            answer = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.broken(f"its answer is not what OpenAI's API says ({str(error)[:200]})") from error
        reported = getattr(answer, "error", None)
        if reported is not None:
            raise self.broken(f"it reports: {reported.message[:500]}")
        return answer

    def broken(self, what: str) -> ApiError:
        return ApiError(
            502, f"the server behind model {self.name!r} failed: {what}", type="server_error", code="upstream_error"
        )

    def _unreachable(self, error: exceptions.HTTPError, context: Context) -> ApiError:
        context.check()
        if isinstance(error, exceptions.TimeoutError):
            return self.broken(f"it was silent for {self._timeout:g} s")
        return self.broken(f"it cannot be reached ({type(error).__name__})")

    def _refused(self, response: urllib3.BaseHTTPResponse) -> ApiError:
        """The ApiError for a status other than 200: the client's faults stay the client's, all others are 502."""
        status = response.status
        try:
            found = FAULTY.decode(response.read(1 << 16)).error
        except (exceptions.HTTPError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = None
        finally:
            response.close()
        fault = Fault(found) if isinstance(found, str) else found or Fault()
        said = fault.message[:500] or f"status {status}"
        if status in (400, 413, 422):
            code = None if fault.code is None else str(fault.code)
            return ApiError(400, f"the server behind model {self.name!r} says: {said}", param=fault.param, code=code)
        if status == 429:
            after = response.headers.get("retry-after", "")
            return ApiError(
                429,
                f"the server behind model {self.name!r} is busy: {said}",
                type="rate_limit_error",
                code="upstream_rate_limit",
                retry_after=int(after) if after.isdigit() else 1,
            )
        if status in (401, 403):
            return self.broken(f"it refused this server's credentials with status {status}; check api_key")
        return self.broken(f"status {status}: {said}")
