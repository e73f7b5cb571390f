"""The bootstrap: starts the application before the first event, then answers events until Lambda ends the process.

One event at a time, on the main thread, without asyncio: that is how Lambda asks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from lsbuild_runtime import manifest as formats
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Context, Response
from lsbuild_runtime.serve.aws_lambda import events
from lsbuild_runtime.serve.aws_lambda.last_word import LAST_SECONDS, last_word
from lsbuild_runtime.serve.aws_lambda.powertools import Function, Telemetry
from lsbuild_runtime.serve.aws_lambda.runtime_api import Invocation, RuntimeApi, RuntimeApiError, TooLarge

SETTINGS = "lambda.json"
"""The file beside the manifest that says how the function was built."""
EXIT_FAILED = 10
MARGIN_SECONDS = 0.5
"""What is kept of the function's time, so that an answer that ran out of it still says so."""
_SNAP_START = "snap-start"


class Settings(Struct, frozen=True):
    """How the function was built. ``preload`` are services ("api/name") that are opened before the first event."""

    namespace: str = "lsbuild"
    stream: tuple[events.Door, ...] = ("function-url",)
    """Doors whose answers are streamed: those that invoke the function with a response stream."""
    preload: tuple[str, ...] = ()


class Server:
    """One application on one Runtime API."""

    def __init__(self, app: App, api: RuntimeApi, settings: Settings, telemetry: Telemetry) -> None:
        self._app = app
        self._api = api
        self._settings = settings
        self._telemetry = telemetry
        self._limits = (app.manifest.server.body, app.manifest.server.upload)

    def preload(self) -> None:
        """Open what the settings name. What cannot be opened yet (a secret is missing) says so when it is asked for."""
        for name in self._settings.preload:
            api, _, service = name.partition("/")
            try:
                self._app.services.get(api, service)
            except ApiError as error:
                sys.stderr.write(f"lsbuild: {name} is not preloaded: {error.message}\n")

    def serve_one(self) -> None:
        """Wait for an event and answer it. RuntimeApiError when there is no Runtime API any more."""
        invocation = self._api.next()
        if invocation.trace:
            os.environ["_X_AMZN_TRACE_ID"] = invocation.trace  # where X-Ray and Powertools look for it
        try:
            self._answer(invocation)
        except RuntimeApiError:
            raise
        except Exception as error:  # the next event may fare better than this one
            if not isinstance(error, events.UnknownEvent):
                sys.excepthook(type(error), error, error.__traceback__)
            self._api.fail(invocation.id, error)
        self._telemetry.flush(invocation.id, invocation.function_arn)

    def _answer(self, invocation: Invocation) -> None:
        own = time.monotonic() + self._app.manifest.server.deadline_s
        context = Context(deadline=min(own, invocation.deadline - MARGIN_SECONDS))
        incoming = events.read(invocation.event, context)
        if not incoming.request.headers.get("x-request-id"):
            context.request_id = invocation.id
        fault = incoming.fault or self._oversized(incoming)
        left = invocation.deadline - LAST_SECONDS - time.monotonic()
        with last_word(left, lambda: self._too_late(invocation.id, incoming)) as turn:
            response = self._app.refuse(incoming.request, fault) if fault else self._app.handle(incoming.request)
            if turn.take():
                self._send(self._api, invocation.id, response, incoming)
            else:
                _close(response)

    def _too_late(self, invocation: str, incoming: events.Incoming) -> None:
        """Answer in the place of a request that is still at work; runs in a thread of its own."""
        context = incoming.request.context
        context.cancel.set()
        request = msgspec.structs.replace(incoming.request, context=Context(request_id=context.request_id))
        fault = ApiError(
            408,
            "the function's time is over, and the work was not done",
            type="timeout_error",
            code="deadline_exceeded",
        )
        with contextlib.closing(RuntimeApi(self._api.address)) as api:
            try:
                self._send(api, invocation, self._app.refuse(request, fault), incoming)
            except RuntimeApiError as error:
                sys.stderr.write(f"lsbuild: {error}\n")

    def _send(self, api: RuntimeApi, invocation: str, response: Response, incoming: events.Incoming) -> None:
        if incoming.door in self._settings.stream:
            self._stream(api, invocation, response, incoming.request.context)
        else:
            self._whole(api, invocation, response, incoming)

    def _oversized(self, incoming: events.Incoming) -> ApiError | None:
        request = incoming.request
        usual, large = self._limits
        limit = large if self._app.large(request.method, request.path) else usual
        if len(request.body) <= limit:
            return None
        return ApiError(413, f"the request body is larger than {limit} bytes", code="request_too_large")

    def _stream(self, api: RuntimeApi, invocation: str, response: Response, context: Context) -> None:
        chunks = events.pieces(response)
        try:
            api.stream(invocation, events.prelude(response), chunks)
        except (RuntimeApiError, TooLarge) as error:  # the client is gone, or has had all that is allowed
            sys.stderr.write(f"lsbuild: the answer was cut: {error}\n")
        finally:
            context.cancel.set()
            _close(response)

    def _whole(self, api: RuntimeApi, invocation: str, response: Response, incoming: events.Incoming) -> None:
        payload = events.whole(incoming.door, response)
        if len(payload) > events.limit(incoming.door):
            refusal = self._app.refuse(incoming.request, events.too_large(len(payload), incoming.door))
            payload = events.whole(incoming.door, refusal)
        with contextlib.suppress(TooLarge):  # the service has told the client by then
            api.respond(invocation, payload)


def _close(response: Response) -> None:
    """Stop whoever makes the body."""
    close = getattr(response.body, "close", None)
    if close is not None:
        close()


def main(task: str, layers: str) -> int:
    """Serve the function in ``task`` with its layers in ``layers`` until Lambda ends the process; returns the exit code."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        sys.stderr.write("lsbuild: AWS_LAMBDA_RUNTIME_API is not set: this is started by Lambda\n")
        return EXIT_FAILED
    with contextlib.closing(RuntimeApi(address)) as api:
        try:
            server = start(Path(task), Path(layers), api, os.environ)
        except Exception as error:  # whatever it is, Lambda has to be told, or it waits for nothing
            sys.stderr.write(f"lsbuild: {error}\n")
            with contextlib.suppress(RuntimeApiError):
                api.fail_init(error)
            return EXIT_FAILED
        try:
            _serve(server, api)
        except RuntimeApiError as error:
            sys.stderr.write(f"lsbuild: {error}\n")
        return EXIT_FAILED


def _serve(server: Server, api: RuntimeApi) -> None:
    """Answer events until RuntimeApiError says that there is nobody to ask for one."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == _SNAP_START:
        from lsbuild_runtime.serve.aws_lambda.snapshot import hold

        hold(api)
    while True:
        server.serve_one()


def start(task: Path, layers: Path, api: RuntimeApi, environ: Mapping[str, str]) -> Server:
    """Everything that is done before the first event. Raises ManifestError for a damaged bundle."""
    root = joined(task, layers, Path(environ.get("TMPDIR", "/tmp")) / "lsbuild")  # noqa: S108 - Lambda's one writable folder
    manifest = formats.read(root)
    settings = msgspec.json.decode((task / SETTINGS).read_bytes(), type=Settings)
    function = Function(
        name=environ.get("AWS_LAMBDA_FUNCTION_NAME", manifest.name),
        version=environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
        memory=environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", ""),
        service=environ.get("POWERTOOLS_SERVICE_NAME", manifest.name),
        namespace=environ.get("POWERTOOLS_METRICS_NAMESPACE", settings.namespace),
    )
    telemetry = Telemetry(function)
    # Stores are read-only: what a function writes is gone with its sandbox, so it is given no folder to write to.
    # Lambda compares the hashes of what it unpacks, and nobody can write there: sizes will do.
    app = App(manifest, root, telemetry.observe, check=formats.check_sizes)
    server = Server(app, api, settings, telemetry)
    server.preload()
    return server


def joined(task: Path, layers: Path, scratch: Path) -> Path:
    """One folder with what lies in ``task`` and in ``layers``: links in ``scratch``, or ``task`` when there are no layers."""
    if not layers.is_dir():
        return task
    scratch.mkdir(parents=True, exist_ok=True)
    for folder in (task, layers):
        for path in folder.iterdir():
            link = scratch / path.name
            if link.is_symlink():  # an earlier process of this very sandbox
                link.unlink()
            link.symlink_to(path)
    return scratch
