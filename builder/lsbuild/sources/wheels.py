"""``wheels:PLATFORM?requirement&requirement``: the exact wheels for a platform, resolved once and then as the lock says."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lsbuild.api import Source, SourceFile
from lsbuild.errors import SourceError
from lsbuild.prune import NEVER, normalised
from lsbuild.sources import index
from lsbuild.sources.base import FetchContext
from lsbuild.wheels import split_name

_UV_GLIBC = ((2, 17), (2, 28), (2, 31), (2, 32), (2, 33), (2, 34), (2, 35), (2, 36), (2, 37), (2, 38), (2, 39), (2, 40))
"""The manylinux levels that uv knows."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    arch: str
    python: str
    glibc: tuple[int, int]
    requirements: tuple[str, ...]
    whole: bool = False
    """Whether everything that is required comes, also what the runtime never imports."""

    def for_uv(self) -> list[str]:
        """uv's words for the platform: the highest level it knows that is not newer."""
        level = max((known for known in _UV_GLIBC if known <= self.glibc), default=_UV_GLIBC[0])
        return [
            "--python-platform",
            f"{self.arch}-manylinux_{level[0]}_{level[1]}",
            "--python-version",
            self.python,
        ]

    def for_pip(self) -> list[str]:
        """pip's words for it: every manylinux level up to the platform's glibc, newest first (PEP 600)."""
        tags = [f"manylinux_2_{minor}_{self.arch}" for minor in range(self.glibc[1], 16, -1)]
        tags += [f"manylinux2014_{self.arch}"]
        words = [word for tag in tags for word in ("--platform", tag)]
        return [*words, "--implementation", "cp", "--python-version", self.python]


def fetch(rest: str, context: FetchContext) -> Source:
    """The wheels as blobs, named by their file names."""
    wanted = _parse(rest, context.uri)
    if context.pinned is not None:
        return Source(context.uri, _as_locked(wanted, context.pinned, context))
    if context.offline:
        raise context.missing("these wheels were never resolved, their entry is missing from lsbuild.lock: they are")
    context.progress(0, 0, "resolving")
    pins = _resolve(wanted, context.uri)
    context.progress(0, 0, f"downloading {len(re.findall(r'^[A-Za-z0-9]', pins, re.MULTILINE))} wheels")
    return Source(context.uri, _download(wanted, pins, context))


def _parse(rest: str, uri: str) -> _Wanted:
    tag, _, tail = rest.partition("?")
    match = re.fullmatch(r"linux-(x86_64|aarch64)-cp(\d)(\d+)-glibc(\d+)\.(\d+)(/whole)?", tag)
    if match is None or not tail:
        raise SourceError("expected wheels:linux-ARCH-cpXY-glibcN.M?requirement&requirement", where=uri)
    requirements = tuple(unquote(each) for each in tail.split("&"))
    glibc = (int(match[4]), int(match[5]))
    return _Wanted(match[1], f"{match[2]}.{match[3]}", glibc, requirements, match[6] is not None)


def _resolve(wanted: _Wanted, uri: str) -> str:
    """Exact pins with the hashes of every file of each version, as a requirements file."""
    with tempfile.TemporaryDirectory() as folder:
        asked, never = Path(folder) / "requirements.in", Path(folder) / "never.txt"
        asked.write_text("\n".join(wanted.requirements) + "\n")
        asked_for = {normalised(re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0]) for each in wanted.requirements}
        left_out = [] if wanted.whole else [name for name in NEVER if name not in asked_for]
        never.write_text("\n".join(left_out) + "\n")
        words = ["pip", "compile", "--quiet", "--only-binary", ":all:", "--generate-hashes"]
        words += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        return index.uv([*words, *wanted.for_uv(), "--excludes", str(never), str(asked)], uri)


def _as_locked(wanted: _Wanted, pinned: Sequence[SourceFile], context: FetchContext) -> tuple[SourceFile, ...]:
    absent = [file for file in pinned if context.blob(file.sha256) is None]
    if absent and context.offline:
        names = ", ".join(file.path for file in absent)
        raise context.missing(f"{names} {'is' if len(absent) == 1 else 'are'}")
    if absent:
        context.progress(0, 0, f"downloading {len(absent)} wheels")
        pins = [f"{name}=={version} --hash=sha256:{file.sha256}" for file in absent
                for name, version in [split_name(file.path)]]  # fmt: skip
        _download(wanted, "\n".join(pins) + "\n", context)
    return tuple(pinned)


def _download(wanted: _Wanted, pins: str, context: FetchContext) -> tuple[SourceFile, ...]:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "pins.txt"
        listed.write_text(pins)
        found = index.download(listed, Path(folder) / "wheels", wanted.for_pip(), context.uri)
        files = []
        for path in found:
            blob = context.add(path)
            files.append(SourceFile(path.name, blob, blob.name, blob.stat().st_size))
    return tuple(sorted(files, key=lambda file: file.path))
