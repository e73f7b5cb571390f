"""`remote::mcp` at run time: the tools of a server, as they were pinned at build; a server that fails is tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from lsbuild_plugins.mcp.serve import definitions
from lsbuild_plugins.mcp.serve.definitions import Definition, changes
from lsbuild_plugins.mcp.serve.messages import Expired, Failure, Gone, Transport
from lsbuild_plugins.mcp.serve.session import Session
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.tools import Sends, ToolInfo, ToolResult

LONGEST_PAUSE = 60.0
FRESH_SECONDS = 60.0
"""How long a look at the server's definitions is good for."""

Connect = Callable[[], Transport]


class Terms(Struct, frozen=True):
    """What the spec says of all tools of a server. ``allow`` empty means all."""

    name: str
    sends: Sends = "external"
    trusted: bool = False
    approval: bool = False
    allow: tuple[str, ...] = ()


class McpTools:
    """Implements tools.ToolRuntime for one server. ``pinned`` None takes the definitions as the server gives them."""

    def __init__(
        self,
        terms: Terms,
        pinned: Sequence[Definition] | None,
        connect: Connect,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terms = terms
        self._pinned = None if pinned is None else tuple(pinned)
        self._connect = connect
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._looked = 0.0
        self._known: tuple[Definition, ...] = self._pinned or ()
        self._refused: dict[str, str] = {}
        self._failures = 0
        self._failed_at = 0.0

    def tools(self, context: Context) -> Sequence[ToolInfo]:
        """See tools.ToolRuntime. Pinned ones are known without asking; those found changed are left out."""
        if self._pinned is None:
            try:
                self._ready(context)
            except (Gone, Failure) as error:
                message = f"the tools of {self._terms.name!r} cannot be listed: {error}"
                raise ApiError(503, message, type="server_error", code="tool_server_unavailable") from error
        return tuple(self._info(each) for each in self._offered() if each.name not in self._refused)

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """See tools.ToolRuntime. A server that is away, dies or lies is a failed result, and is asked again later."""
        if self._pinned is not None and self._named(name) is None:
            raise _unknown(name)
        try:
            try:
                return self._called(name, arguments, context)
            except Expired:
                return self._called(name, arguments, context)
        except Failure as error:
            return ToolResult(f"{name} failed: {error}.", failed=True)
        except Gone as error:  # while it began, or was looked at
            self.close()
            self._failed()
            return ToolResult(f"{name} failed: {error}.", failed=True)

    def close(self) -> None:
        """End the session."""
        session = self._session
        if session is not None:
            self._drop(session)

    def _called(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        session = self._ready(context)
        tool = self._named(name)
        if tool is None:
            raise _unknown(name)
        if tool.name in self._refused:
            return ToolResult(self._refused[tool.name], failed=True)
        try:
            result = session.call(tool.name, arguments, context)
        except Expired:
            self._drop(session)
            raise
        except Gone as error:
            if self._drop(session):  # a death counts once, however many calls were under way
                self._failed()
            raise Failure(str(error)) from error
        self._failures = 0
        return result

    def _ready(self, context: Context) -> Session:
        """A session whose definitions were looked at lately; only one thread makes it."""
        while not self._lock.acquire(timeout=0.05):
            context.check()
        try:
            session = self._session
            if session is not None and not session.alive():
                self._session = None
                session.close()
                session = None
            if session is None:
                session = self._opened(context)
            if self._clock() - self._looked > FRESH_SECONDS:
                self._look(session, context)
            return session
        finally:
            self._lock.release()

    def _opened(self, context: Context) -> Session:
        pause = min(LONGEST_PAUSE, 2.0 ** (self._failures - 2)) if self._failures > 1 else 0.0
        left = self._failed_at + pause - self._clock()
        if left > 0:
            raise Failure(f"the server failed {self._failures} times and is tried again in {left:.0f} s")
        with context.watch.span("mcp initialize", **{"lsbuild.tool.group": self._terms.name}):
            transport = self._connect()
            try:
                session = Session(transport, context, self._seconds)
                self._look(session, context)
            except (Failure, Expired) as error:
                transport.close()
                raise Gone(str(error)) from error
            except BaseException:
                transport.close()
                raise
        self._session = session
        return session

    def _look(self, session: Session, context: Context) -> None:
        """Compare what the server offers with what was pinned. What changed is refused by name, what is new is not seen."""
        with context.watch.span("mcp tools/list", **{"lsbuild.tool.group": self._terms.name}) as span:
            now = session.tools(context)
            self._looked = self._clock()
            if self._pinned is None:
                self._known = tuple(now)
                return
            offered = {each.name: each for each in now}
            found = {each.name: changes(each, offered.get(each.name)) for each in self._pinned}
            self._refused = {name: self._told(name, what) for name, what in found.items() if what}
            added = sorted(offered.keys() - found.keys())
            if self._refused:
                span.set(
                    **{"lsbuild.tool.refused": [f"{name}: {', '.join(what)}" for name, what in found.items() if what]}
                )
            if added:
                span.set(**{"lsbuild.tool.added": added[:20]})

    def _told(self, name: str, what: list[str]) -> str:
        changed = " and ".join(what) if what[0] == "it is gone" else f"{' and '.join(what)} changed since the build"
        return (
            f"The tool {name!r} of {self._terms.name!r} is refused: {changed}. Whoever runs this server has to look at it "
            "and build again; do without it."
        )

    def _offered(self) -> list[Definition]:
        allow = self._terms.allow
        return [each for each in self._known if not allow or each.name in allow or each.called in allow]

    def _named(self, name: str) -> Definition | None:
        return next((each for each in self._offered() if each.called == name), None)

    def _info(self, tool: Definition) -> ToolInfo:
        terms = self._terms
        vouched = self._pinned is not None or terms.trusted
        told = (tool.called, tool.described, tool.parameters)
        return ToolInfo(*told, terms.sends, terms.trusted, terms.approval, vouched)

    def _drop(self, session: Session) -> bool:
        """End a session; False when somebody did that before."""
        with self._lock:
            if session is not self._session:
                return False
            self._session = None
            self._looked = 0.0
        session.close()
        return True

    def _failed(self) -> None:
        self._failures += 1
        self._failed_at = self._clock()


def open_tools(service: Service, root: Path, host: Host) -> McpTools:  # noqa: ARG001 - the entry's shape
    """The entry; starts and asks nothing yet."""
    told, config = service.metadata, service.config
    pinned = definitions.read((root / service.path / definitions.FILE_NAME).read_bytes()) if service.path else None
    terms = Terms(
        service.name,
        sends=told["sends"],
        trusted=told["trusted"],
        approval=told["approval"] == "always",
        allow=tuple(config.get("allow", ())),
    )
    return McpTools(terms, pinned, connector(config, root), config.get("timeout", 30.0))


def connector(config: Mapping[str, Any], folder: Path) -> Connect:
    """What makes a connection as the spec says: a program that is started in ``folder``, or a URL."""

    def connect() -> Transport:
        if config.get("command"):
            from lsbuild_plugins.mcp.serve.stdio import Stdio

            return Stdio(config["command"], config.get("env", {}), folder)
        from lsbuild_plugins.mcp.serve.web import Web

        return Web(config["url"], config.get("headers", {}), config.get("token") or "")

    return connect


def _unknown(name: str) -> ApiError:
    return ApiError(404, f"there is no tool {name[:100]!r}", code="not_found")
