"""Opens services when the server starts, one after the other, and says how far that is; it knows nothing of what they do.

For services whose opening may take minutes (a GPU's engines are built) or may be refused for good: both have to be seen
before the first request is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lsbuild_runtime.http import ApiError, Watch
from lsbuild_runtime.ports import Placement

if TYPE_CHECKING:
    from lsbuild_runtime.services import Services

RETRY_SECONDS = 5
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0
"""Seconds after which a service that could not be opened is tried again: a driver may come later than the server."""


class Preparing:
    """One thread that opens ``names`` ("api/name"). ``tell`` takes a short line whenever something begins or ends."""

    def __init__(
        self,
        names: tuple[str, ...],
        services: Services,
        observe: Callable[[str], Watch],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._services = services
        self._observe = observe
        self._tell = tell
        self._clock = clock
        self._done = 0
        self._began = clock()
        self._faults: dict[str, str] = {}
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preparing", daemon=True)

    def start(self) -> None:
        """Begin."""
        services = self._services
        services.doing = f"opening {self._names[0]}"
        services.heard = self._tell
        self._thread.start()

    def close(self) -> None:
        """Begin no other service; one that is being opened cannot be stopped."""
        self._stopping.set()

    def wait(self, seconds: float) -> bool:
        """Whether everything was tried once within so many seconds."""
        return self._tried.wait(seconds)

    def require(self) -> None:
        """ApiError 503 while services are opened (``preparing``), and for those that could not be (``not_ready``)."""
        if self._done < len(self._names):
            raise ApiError(
                503,
                f"{self._services.doing}: {self._done} of {len(self._names)} models ready, "
                f"{self._clock() - self._began:.0f} s so far",
                type="server_error",
                code="preparing",
                retry_after=RETRY_SECONDS,
            )
        faults = [fault for name, fault in tuple(self._faults.items()) if not self._services.is_open(*_split(name))]
        if faults:
            raise ApiError(503, "; ".join(faults), type="server_error", code="not_ready")

    def placements(self) -> Iterator[tuple[str, Placement]]:
        """Name and placement of every service that was opened here and says where it runs."""
        for name in self._names:
            placement = self._services.placement(*_split(name))
            if placement is not None:
                yield name, placement

    def _run(self) -> None:
        for name in self._names:
            if self._stopping.is_set():
                return
            self._services.doing = f"opening {name}"
            self._tell(f"{self._services.doing} ({self._done + 1} of {len(self._names)})")
            self._open(name)
            self._done += 1
        self._services.doing = ""
        self._tell("; ".join(self._faults.values()) or "serving")
        self._tried.set()
        self._again()

    def _again(self) -> None:
        """Try what could not be opened with growing pauses, while nobody else waits for it."""
        pause = FIRST_PAUSE
        while self._faults and not self._stopping.wait(pause):
            for name in list(self._faults):
                self._open(name)
            pause = min(2 * pause, LONGEST_PAUSE)
            self._tell("; ".join(self._faults.values()) or "serving")

    def _open(self, name: str) -> None:
        """Open one. Its span, and so its log line, says where it runs, or why it does not."""
        watch = self._observe("start")
        with watch.span(f"open {name}") as span:
            try:
                self._services.prepare(*_split(name))
                self._faults.pop(name, None)
            except ApiError as error:
                self._faults[name] = error.message
                span.set(level="error", **{"error.type": error.code or "not_ready", "error.message": error.message})
            except Exception as error:  # what nobody expected ends no thread that others wait for
                self._faults[name] = f"{name}: {error}"
                span.set(error=error)
            placement = self._services.placement(*_split(name))
            if placement is not None:
                span.set(**placement_attributes(placement))
                if placement.why:
                    watch.count("lsbuild.execution.fallbacks", 1, **placement_attributes(placement))


def placement_attributes(placement: Placement) -> dict[str, str]:
    """What a span and a log line say of it."""
    found = {"lsbuild.execution.provider": placement.provider, "lsbuild.execution.wanted": placement.wanted}
    return found | ({"lsbuild.execution.fallback": placement.why} if placement.why else {})


def _split(name: str) -> tuple[str, str]:
    api, _, service = name.partition("/")
    return api, service
