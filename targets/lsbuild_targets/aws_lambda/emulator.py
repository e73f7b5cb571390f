"""AWS's Runtime Interface Emulator: where it is found, and a function started under it behind an HTTP API."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from platform import machine

from lsbuild import toolbox
from lsbuild_targets.aws_lambda import doors
from lsbuild_targets.aws_lambda.front import front
from lsbuild_targets.aws_lambda.record import Record
from lsbuild_targets.aws_lambda.sandbox import Start, last_words, process

_INVOKE = "/2015-03-31/functions/function/invocations"
_NAMES = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
_PORT_SECONDS = 20.0


def find() -> str:
    """The path of the emulator for this machine, "" when there is none.

    It is searched on PATH, and beside ``sam``: the one that LSBUILD_SAM names, or that on PATH.
    """
    if found := shutil.which("aws-lambda-rie"):
        return found
    sam = toolbox.SAM.path()
    if not sam:
        return ""
    environment = Path(sam).resolve().parents[1]
    here = environment.glob(f"lib/python3*/site-packages/samcli/local/rapid/{_NAMES.get(machine(), '-')}")
    return next((str(path) for path in sorted(here)), "")


TOOL = toolbox.Tool(
    "aws-lambda-rie",
    "is AWS's emulator of the Runtime API",
    f"it comes with SAM: {toolbox.SAM.get}",
    finder=lambda: find(),  # looked up when it is asked, so that a test can put another in its place
)


@contextmanager
def running(rie: str, record: Record, start: Start, scratch: Path) -> Iterator[Emulated]:
    """The function under the emulator at ``rie``."""
    invoke_at, api_at = _free_port(), _free_port()
    program = scratch / "aws-lambda-rie"
    if not program.exists():  # the wheel's file is not executable
        shutil.copyfile(rie, program)
        program.chmod(0o755)
    words = (
        "--runtime-interface-emulator-address",
        f"127.0.0.1:{invoke_at}",
        "--runtime-api-address",
        f"127.0.0.1:{api_at}",
    )
    environment = {**start.environment, "AWS_LAMBDA_FUNCTION_TIMEOUT": str(record.timeout)}
    with process((str(program), *words, *start.command), environment, scratch) as (started, log):
        limit = time.monotonic() + _PORT_SECONDS
        while not _listens(invoke_at):
            if started.poll() is not None or time.monotonic() > limit:
                raise doors.FunctionFailed(f"the emulator did not start: {last_words(log)}")
            time.sleep(0.02)
        emulated = Emulated(invoke_at)
        with front(emulated.invoke, streams=False) as emulated.url:
            try:
                yield emulated
            finally:
                emulated.log = last_words(log)


class Emulated:
    """A function behind the emulator; ``url`` is an HTTP API in front of it, ``log`` the end of what it printed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._one = threading.Lock()  # a sandbox answers one event at a time, and the emulator has one sandbox
        self.url = ""
        self.log = ""

    def invoke(self, event: bytes) -> Iterator[bytes]:
        """The payload of the answer to ``event``."""
        with self._one:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=900)
            try:
                connection.request("POST", _INVOKE, event)
                yield connection.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                raise doors.FunctionFailed(f"the emulator went away: {error}") from error
            finally:
                connection.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
