"""One model of another server: requests, streams of events, and what its failures mean to our clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from lsbuild_plugins.openai.serve.answers import FAULTY, Fault
from lsbuild_plugins.openai.serve.connection import Pool, Reply, Silent, Unreachable
from lsbuild_plugins.openai.serve.refusals import refusal
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service

T = TypeVar("T")
LONGEST_EVENT = 16 << 20
"""Bytes of one event of a stream; a longer one is an upstream fault."""


class Upstream:
    """Every failure becomes an ApiError that names the model: the client's own faults 400, a busy server 429, all
    others 502, since a 4xx would blame the client."""

    def __init__(self, service: Service) -> None:
        config = service.config
        self.name = service.name
        self.model: str = config["model"]
        self.tokens_parameter: str = config.get("tokens_parameter", "max_tokens")
        self._seconds = float(config.get("timeout", 60.0))
        headers = {"accept-encoding": "identity", "user-agent": "lsbuild", **config.get("headers", {})}
        if "api_key" in config:
            headers["authorization"] = f"Bearer {config['api_key']}"
        try:
            self._pool = Pool(config["base_url"], headers, self._seconds, config.get("connections", 64))
        except ValueError as error:
            raise ApiError(503, f"{service.name}: base_url: {error}", type="server_error") from error

    def whole(self, path: str, body: Mapping[str, Any], decoder: msgspec.json.Decoder[T], context: Context) -> T:
        """POST and decode the complete answer."""
        try:
            reply = self._pool.post(path, msgspec.json.encode(body), context.check, context.deadline)
            try:
                if reply.status != 200:
                    raise self._refused(reply)
                return self._decoded(reply.whole(), decoder)
            finally:
                reply.close()
        except Unreachable as error:
            raise self.broken(str(error)) from error
        except Silent as error:
            raise self.broken(f"it was silent for {self._seconds:g} s", "upstream_timeout") from error

    def events(
        self, path: str, body: Mapping[str, Any], decoder: msgspec.json.Decoder[T], context: Context
    ) -> Iterator[T]:
        """POST and decode each ``data:`` line as it comes; closing the iterator closes the connection."""
        try:
            reply = self._pool.post(path, msgspec.json.encode(body), context.check, context.deadline)
            try:
                if reply.status != 200:
                    raise self._refused(reply)
                for data in self._data_lines(reply):
                    yield self._decoded(data, decoder)
            finally:
                reply.close()
        except Unreachable as error:
            raise self.broken(str(error)) from error
        except Silent as error:
            raise self.broken(f"it was silent for {self._seconds:g} s", "upstream_timeout") from error

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()

    def broken(self, what: str, code: str = "upstream_error") -> ApiError:
        """A 502."""
        return ApiError(502, f"the server behind model {self.name!r} failed: {what}", type="server_error", code=code)

    def _data_lines(self, reply: Reply) -> Iterator[bytes]:
        """What follows ``data:``, up to [DONE]; what comes after it is read so that the connection can be kept."""
        rest = b""
        while data := reply.read():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LONGEST_EVENT:
                raise self.broken(f"an event is longer than {LONGEST_EVENT} bytes")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                value = line[5:].strip()
                if value == b"[DONE]":
                    reply.whole()
                    return
                yield value
        raise self.broken("the stream ended before [DONE]")

    def _decoded(self, data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        try:
            answer = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.broken(f"its answer is not what OpenAI's API says ({str(error)[:200]})") from error
        reported = getattr(answer, "error", None)
        if reported is not None:
            raise self.broken(f"it reports: {reported.message[:500]}")
        return answer

    def _refused(self, reply: Reply) -> ApiError:
        """The ApiError for a status other than 200."""
        try:
            found = FAULTY.decode(reply.whole()).error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = None
        fault = Fault(found) if isinstance(found, str) else found or Fault()
        return refusal(self.name, reply.status, fault, reply.headers)
