"""Starts uvicorn for one bundle: reads the manifest, binds the port, prints the address, stops on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from lsbuild_runtime import manifest as formats
from lsbuild_runtime.app import App
from lsbuild_runtime.serve.asgi import Asgi
from lsbuild_runtime.serve.notify import ALIVE, READY, STOPPING, Notifier
from lsbuild_runtime.watch import json_lines

EXIT_FAILED = 10
"""The exit code when the bundle cannot be served: damaged, or the port is in use."""
GRACE_SECONDS = 30
"""How long answers that have begun may go on after SIGTERM; then they are cancelled."""
_BACKLOG = 1024


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT, or do what a word or an option asks instead; returns the exit code."""
    if "doctor" in arguments:
        from lsbuild_runtime import doctor

        return doctor.main(_without_address(arguments))
    options = _options(arguments)
    root = Path(options.root)
    try:
        manifest = formats.read(root)
        state = state_folder(options.state, manifest.name, os.environ)
        if options.compact:
            from lsbuild_runtime.serve.compact import compact

            return 0 if compact(manifest, root, state, sys.stdout.write, sys.stderr.write) else EXIT_FAILED
        app = App(manifest, root, json_lines, state)
        listener = listen(options.host or manifest.server.host, _port(options.port, manifest.server.port))
    except (formats.ManifestError, OSError) as error:
        sys.stderr.write(f"lsbuild: {error}\n")
        return EXIT_FAILED
    sys.stdout.write(f"{manifest.name} serves on {address_of(listener)}\n")
    sys.stdout.flush()
    Server(app, options.drain, Notifier(os.environ)).run(sockets=[listener])
    return 0


def _without_address(arguments: Sequence[str]) -> list[str]:
    """``arguments`` without where to listen, which the start of an image names before its user says anything."""
    places = {place + step for place, word in enumerate(arguments) if word in ("--host", "--port") for step in (0, 1)}
    return [word for place, word in enumerate(arguments) if place not in places]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lsbuild_runtime.serve", description="Serve the folder of an artifact.")
    parser.add_argument("--root", required=True, help="folder that holds manifest.json")
    parser.add_argument("--host", help="address to listen on (default: the manifest's)")
    parser.add_argument("--port", type=int, help="port, 0 for a free one (default: the manifest's)")
    parser.add_argument(
        "--drain", type=float, default=0.0, help="seconds that /v1/ready answers 503 before the port is closed"
    )
    parser.add_argument(
        "--state",
        help="folder for uploads and mutable stores (default: LSBUILD_STATE, systemd's, or one of the user's)",
    )
    parser.add_argument(
        "--compact", action="store_true", help="fold what was added to mutable stores into their indexes, then exit"
    )
    return parser.parse_args(arguments)


def state_folder(wanted: str | None, name: str, environ: Mapping[str, str]) -> Path | None:
    """Where this server keeps state: as asked, LSBUILD_STATE, systemd's STATE_DIRECTORY, or below the user's home.

    It is made when something is first kept; None when nobody named one and it could not be made.
    """
    given = wanted or environ.get("LSBUILD_STATE") or environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given).absolute()
    base = environ.get("XDG_STATE_HOME") or (f"{environ['HOME']}/.local/state" if environ.get("HOME") else "")
    folder = Path(base, "lsbuild", name)
    return folder if base and _is_or_can_be(folder) else None


def _is_or_can_be(folder: Path) -> bool:
    """Whether it is there or can be made: a server without a home of its own, such as nobody's, keeps no state."""
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)  # noqa: PTH110 - Path raises
    return there == folder or os.access(there, os.W_OK | os.X_OK)


def _port(wanted: int | None, default: int) -> int:
    return default if wanted is None else wanted


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; OSError with one clear sentence when that is impossible."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        # The protocol must be named: asyncio turns Nagle's algorithm off only for sockets that say they are TCP, and
        # an answer written as headers and body would wait 40 ms for the client's acknowledgement.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        return listener
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(error)
        raise OSError(f"cannot listen on {host}:{port}: {reason}; choose another with --port") from None


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):  # type: ignore[misc, unused-ignore]
    """uvicorn, except that a signal first makes the application say that it is not ready, and that systemd is told."""

    def __init__(self, app: App, drain: float, notifier: Notifier | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                Asgi(app),
                http="httptools",
                loop="asyncio",  # uvloop took 10-25 % off a proxied request's CPU and adds 14 MB to every artifact
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._app = app
        self._drain = drain
        self._notifier = notifier or Notifier({})
        app.tell = lambda line: self._notifier.send(f"STATUS={line}")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, then say so."""
        await super().startup(sockets)
        self._notifier.send(READY)
        if self._notifier.watchdog_s:
            self._say_alive()

    def _say_alive(self) -> None:
        # From the event loop itself: when that hangs, systemd hears nothing and starts the server again.
        self._notifier.send(ALIVE)
        asyncio.get_running_loop().call_later(self._notifier.watchdog_s, self._say_alive)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop soon; a second Ctrl-C stops at once. The exit code stays 0: stopping was asked for."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        elif sig == signal.SIGINT or not self._drain:
            self.should_exit = True
        elif not self._app.draining:
            asyncio.get_running_loop().call_soon_threadsafe(self._stop_later)
        self._app.draining = True
        self._notifier.send(STOPPING)

    def _stop_later(self) -> None:
        asyncio.get_running_loop().call_later(self._drain, setattr, self, "should_exit", True)
