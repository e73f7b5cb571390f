"""Steps that do, fail, hang and die as the tests of the executor want it."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lsbuild.api import GateError, Json, Problem, StepContext
from lsbuild.errors import SpecError


def echo(context: StepContext) -> Mapping[str, Json]:
    """Write options, inputs and source hashes; talk on stdout and stderr, which must disturb nobody."""
    print("a word on stdout", flush=True)
    print("a word on stderr", file=sys.stderr, flush=True)
    context.progress(1, 2, "half")
    context.progress(2, 2, "whole")
    (context.out / "below").mkdir()
    (context.out / "below" / "tool").write_text("#!/bin/sh\n")
    (context.out / "below" / "tool").chmod(0o755)
    inputs = {name: json.loads((folder / "echo.json").read_text()) for name, folder in sorted(context.inputs.items())}
    sources = {name: [file.sha256 for file in source.files] for name, source in sorted(context.sources.items())}
    data = {"options": dict(context.options), "inputs": inputs, "sources": sources}
    (context.out / "echo.json").write_text(json.dumps(data, sort_keys=True))
    return {"inputs": len(inputs), "pid": os.getpid()}


def fail(context: StepContext) -> None:
    """An error of a library."""
    (context.out / "half").write_text("half")
    raise RuntimeError("the tensor is upside down")


def gate(context: StepContext) -> None:
    """An error of lsbuild."""
    raise GateError("cosine 0.91, at least 0.95 is wanted", where="embed", hint="Use int8.")


def spec(context: StepContext) -> None:
    """A fault of the spec, found late."""
    raise SpecError([Problem(("models", "a"), "the tokenizer has no chat template")])


def full(context: StepContext) -> None:
    """A full disk."""
    (context.out / "part").write_bytes(b"x" * 1000)
    raise OSError(errno.ENOSPC, "No space left on device")


def die(context: StepContext) -> None:
    """The kernel's answer to too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def link(context: StepContext) -> None:
    """Something the store does not take."""
    (context.out / "link").symlink_to("/etc/hosts")


def sleep(context: StepContext) -> Mapping[str, Json]:
    """Say that it runs, then take a while."""
    started = context.options.get("started")
    if started:
        Path(started).write_text(str(os.getpid()))
    (context.out / "big").write_bytes(b"x" * 100_000)
    time.sleep(float(context.options["seconds"]))
    (context.out / "done").write_text("done")
    return {}


def meet(context: StepContext) -> None:
    """Two of these end only if they run at the same time."""
    folder = Path(context.options["folder"])
    (folder / context.options["me"]).write_text("here")
    for _ in range(600):
        if len(list(folder.iterdir())) >= 2:
            return
        time.sleep(0.05)
    raise RuntimeError("nobody came")


def remember(context: StepContext) -> Mapping[str, Json]:
    """Tell which of its sources it knows from earlier runs."""
    names = [file.path for source in context.sources.values() for file in source.files]
    known = [name for name in names if context.memo.get(name) == name.encode()]
    for name in names:
        context.memo.put(name, name.encode())
    return {"known": known, "cache": str(context.cache)}


def not_json(context: StepContext) -> Mapping[str, Json]:
    """Facts that are no JSON."""
    return {"when": object()}
