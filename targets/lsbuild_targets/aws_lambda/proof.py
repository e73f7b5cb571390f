"""Proves an artifact of this target: its files, Lambda's static rules, and two boots that answer the shared questions.

Under our own Runtime API (a function URL that streams) and under AWS's emulator (an HTTP API, with Lambda's limits of time
and size). What neither shows is said by name: memory, processor share, IAM, and how fast a real sandbox starts.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lsbuild.api import Check, LsbuildError, Manifest
from lsbuild.packing import native
from lsbuild.packing.archive import file_sha256
from lsbuild_runtime.manifest import ManifestError, check_files, read
from lsbuild_targets.aws_lambda import doors, emulator, unpack
from lsbuild_targets.aws_lambda import options as limits
from lsbuild_targets.aws_lambda import record as records
from lsbuild_targets.aws_lambda.mock import Mock
from lsbuild_targets.aws_lambda.record import Record
from lsbuild_targets.aws_lambda.sandbox import Start, Unbootable, last_words, process, start
from lsbuild_targets.aws_lambda.unpack import Sandbox

Ask = Callable[[str], Iterable[Check]]
_BOOT_SECONDS, _EMULATED_SECONDS = 60.0, 300.0
_UNPROVED = "memory limit, processor share, IAM and the start of a real sandbox show on AWS only"


def verify(artifact: Path, ask: Ask) -> Iterator[Check]:
    """All checks, as they are made."""
    with TemporaryDirectory(prefix="lsbuild-lambda-") as folder:
        scratch = Path(folder)
        try:
            record = records.read(artifact)
            if record is None:
                yield Check("files", False, f"no {records.FILE} in {artifact}")
                return
            _check_zips(artifact, record)
            sandbox = unpack.lay_out(artifact, record, scratch)
            manifest = _check_files(sandbox, scratch)
        except (LsbuildError, ManifestError) as error:
            yield Check("files", False, str(error))
            return
        yield Check("files", True, f"{len(manifest.files)} files match the manifest")
        rules = list(_rules(record, sandbox, manifest))
        yield from rules
        if all(rule.ok for rule in rules):
            yield from _boots(record, sandbox, scratch, ask)
            yield Check.unproved(_UNPROVED)


def _check_zips(artifact: Path, record: Record) -> None:
    for each in record.zips:
        path = artifact / each.file
        if not path.is_file() or file_sha256(path) != each.sha256:
            raise LsbuildError(f"{each.file} is missing or not what {records.FILE} says", where=str(path))


def _check_files(sandbox: Sandbox, scratch: Path) -> Manifest:
    """Hold every file against the manifest, in one folder as the runtime sees them."""
    root = scratch / "joined"
    root.mkdir()
    for folder in (sandbox.task, sandbox.layers):
        for path in folder.iterdir() if folder.is_dir() else ():
            (root / path.name).symlink_to(path)
    manifest = read(root)
    check_files(root, manifest.files)
    return manifest


def _rules(record: Record, sandbox: Sandbox, manifest: Manifest) -> Iterator[Check]:
    """What Lambda asks of an artifact before it runs a line of it."""
    if record.package == "zip":
        total = sum(each.unzipped for each in record.zips)
        left = limits.UNZIPPED - total
        yield Check("size", left >= 0, f"{total / 1e6:.1f} MB unzipped, {left / 1e6:.1f} MB below Lambda's limit")
        yield Check("layers", len(record.layers) <= limits.LAYERS, f"{len(record.layers)} of {limits.LAYERS}")
        mode = (sandbox.task / "bootstrap").stat().st_mode & 0o777
        yield Check("bootstrap", mode == 0o755, f"mode {mode:o}")
    else:
        total = sum(entry.size for entry in manifest.files)
        yield Check("size", total <= limits.IMAGE, f"{total / 1e6:.1f} MB of Lambda's {limits.IMAGE / 1e6:.0f}")
    glibc = "" if record.package == "image" else limits.GLIBC
    try:
        roots = [folder for folder in (sandbox.task, sandbox.layers / "site") if folder.is_dir()]
        found = native.require(
            roots, "aarch64" if record.arch == "arm64" else record.arch, glibc or "2.41", limits.LEVEL
        )
    except LsbuildError as error:
        yield Check("native code", False, str(error))
        return
    yield Check(
        "native code", True, f"{found.count} files for {record.arch}, glibc {found.glibc} of {glibc or 'its own'}"
    )


def _boots(record: Record, sandbox: Sandbox, scratch: Path, ask: Ask) -> Iterator[Check]:
    try:
        ready = start(record, sandbox, scratch)
    except Unbootable as error:
        yield Check.skipped("boot", f"NOT booted, files only: {error}")
        return
    yield from _with_streams(record, ready, scratch, ask)
    if fault := emulator.TOOL.fault():
        yield Check.skipped("emulator", fault)
        return
    yield from _under_emulator(emulator.TOOL.path(), record, ready, scratch, ask)


def _with_streams(record: Record, ready: Start, scratch: Path, ask: Ask) -> Iterator[Check]:
    """Boot against our Runtime API; ask through a function URL, whose answers come as they are made."""
    seconds = _EMULATED_SECONDS if "QEMU" in ready.how else _BOOT_SECONDS
    with Mock(float(record.timeout) if "QEMU" not in ready.how else _EMULATED_SECONDS).serve() as mock:
        environment = {**ready.environment, "AWS_LAMBDA_RUNTIME_API": mock.address}
        began = time.monotonic()
        with process(ready.command, environment, scratch) as (started, log):
            while not mock.ready.wait(0.05) and started.poll() is None and time.monotonic() - began < seconds:
                pass
            if not mock.ready.is_set():
                told = mock.failures[0] if mock.failures else last_words(log)
                yield Check("boot", False, f"it did not ask for an event: {told}")
                return
            yield Check("boot", True, f"ready for events after {time.monotonic() - began:.2f} s ({ready.how})")
            with mock.url(streams=record.stream) as url:
                yield from ask(url)
                if record.stream:
                    yield _streamed(mock, url)
            if mock.failures:
                yield Check("function errors", False, "; ".join(mock.failures)[:300])
            mock.end()


def _streamed(mock: Mock, url: str) -> Check:
    """That answers of a function URL leave in streaming mode, a head and a body in one answer."""
    before = len(mock.modes)
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as response:  # noqa: S310 - loopback
            count = len(json.loads(response.read())["data"])
    except (OSError, ValueError, KeyError) as error:
        return Check("response stream", False, f"{type(error).__name__}: {error}")
    modes = set(mock.modes[before:])
    return Check("response stream", modes == {"streaming"}, f"{count} models through a streamed answer")


def _under_emulator(rie: str, record: Record, ready: Start, scratch: Path, ask: Ask) -> Iterator[Check]:
    try:
        with emulator.running(rie, record, ready, scratch) as emulated:
            for check in ask(emulated.url):
                yield replace(check, name=f"emulator: {check.name}")
            answer = doors.answer(b"".join(emulated.invoke(_HEALTH)))
            yield Check("emulator: function URL", answer.status == 200, f"{answer.status} {answer.body[:60]!r}")
    except doors.FunctionFailed as error:
        yield Check("emulator", False, str(error))


_HEALTH = doors.event("GET", "/v1/health", (), b"", streams=True)
