"""Looks into an image that ours is built upon: whether its Python and its C library are what we compile for; runs nothing.

Step: ``lsbuild.packing.base_image:examine``. Its output is the image's layers and ``base.json``.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsbuild.api import Json, Platform, Source, Step, StepContext, StepError, TargetError
from lsbuild.packing import layer
from lsbuild.packing.archive import copy_file
from lsbuild.packing.layer import Entry

FILE = "base.json"
MANIFEST, CONFIG, LAYERS = "manifest.json", "config.json", "layers"
"""How a source of scheme ``oci`` names its files."""
_PYTHON = re.compile(r"(?:.*/)?bin/python(3\.\d+)")
_C_LIBRARY = re.compile(r"(?:.*/)?lib(?:64)?/(?:[^/]+-linux-gnu/)?libc(?:\.so\.6|-2\.\d+\.so)")
_GLIBC = re.compile(rb"GNU C Library [^\n]*version (\d+)\.(\d+)")
_MUSL = re.compile(r"(?:.*/)?ld-musl-[^/]+\.so\.1")
_FIRST = ("usr/local/bin", "usr/bin", "bin")
"""Where Python is looked for before other places: what somebody added goes before what the distribution has."""
_LINKS = 16


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """``file`` is its name in the output, ``media`` its media type, ``digest`` that of the file."""

    file: str
    media: str
    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What is known of the image. ``python`` is the path of its interpreter, ``env`` what its containers start with.

    ``libraries`` are the names of its shared libraries.
    """

    name: str
    digest: str
    python: str
    glibc: str
    env: tuple[str, ...]
    layers: tuple[BaseLayer, ...]
    libraries: tuple[str, ...] = ()


def base_step(platform: Platform, base: Source) -> Step:
    """The step that looks into the image ``base`` and keeps its layers."""
    return Step(
        name=f"base.{platform.tag}",
        run="lsbuild.packing.base_image:examine",
        options={"python": platform.python, "glibc": platform.glibc},
        sources={"base": base},
        code=("lsbuild.packing.base_image", "lsbuild.packing.layer"),
    )


def examine(context: StepContext) -> Mapping[str, Json]:
    """Check the image of source ``base`` and copy its layers. Options: ``python`` ("3.13"), ``glibc`` (the oldest, "2.28").

    Raises StepError when the image cannot run what is compiled for these, SourceError when a layer is damaged.
    """
    source = context.sources["base"]
    config = json.loads(_file(source, CONFIG))
    manifest = json.loads(_file(source, MANIFEST))
    tree, layers = Tree(), []
    (context.out / LAYERS).mkdir()
    for number, (entry, diff_id) in enumerate(zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)):
        context.progress(number, len(manifest["layers"]), "looking into the layers of the base")
        name = f"{LAYERS}/{number:03}"
        place = source.file(name)
        if place is None:
            raise StepError(f"the base has no {name}", where=source.uri)
        with layer.opened(place.location, f"{source.uri} layer {number}") as stream:
            tree.add(stream, source.uri)
            found = stream.digest
        if found != diff_id:
            raise StepError(f"layer {number} unpacks to {found}, the image says {diff_id}", where=source.uri)
        copy_file(place.location, context.out / name)
        layers.append(BaseLayer(name, entry["mediaType"], entry["digest"], entry["size"], diff_id))
    glibc = _require_glibc(tree, context.options["glibc"], source.uri)
    python = _require_python(tree, context.options["python"], source.uri)
    env = tuple(config.get("config", {}).get("Env") or ())
    libraries = sorted({name for path in tree.entries if ".so" in (name := posixpath.basename(path))})
    name = source.uri.partition("#")[0]
    made = BaseImage(name, source.revision, f"/{python}", glibc, env, tuple(layers), tuple(libraries))
    write(context.out, made)
    return {"python": made.python, "glibc": glibc, "layers": len(layers), "files": len(tree.entries)}


def write(folder: Path, found: BaseImage) -> None:
    """Note what was found beside the layers."""
    (folder / FILE).write_text(json.dumps(asdict(found), indent=2) + "\n")


def read(folder: Path) -> BaseImage:
    """What ``write`` noted."""
    value: dict[str, Any] = json.loads((folder / FILE).read_bytes())
    layers = tuple(BaseLayer(**each) for each in value.pop("layers"))
    texts = {name: tuple(value[name]) for name in ("env", "libraries")}
    return BaseImage(**{**value, **texts, "layers": layers})


class Tree:
    """The files of all layers laid over each other, without their content, but for the C library's version."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.versions: dict[str, tuple[int, int]] = {}

    def add(self, stream: layer.Plain, where: str) -> None:
        """Lay a layer over what there is."""
        own: set[str] = set()
        for entry, reader in layer.entries(stream, where):
            if entry.kind == "gone":
                self._forget(entry.path, itself=True, but=set())
            elif entry.kind == "opaque":
                self._forget(entry.path, itself=False, but=own)
            else:
                before = self.entries.get(entry.path)
                if entry.kind != "folder" and before is not None and before.kind == "folder":
                    self._forget(entry.path, itself=False, but=own)
                self.entries[entry.path] = self.entries.get(entry.target, entry) if entry.kind == "hard" else entry
                own.add(entry.path)
                if reader is not None and _C_LIBRARY.fullmatch(entry.path):
                    match = _GLIBC.search(reader.read())
                    self.versions[entry.path] = (int(match[1]), int(match[2])) if match else (0, 0)

    def resolve(self, path: str) -> str:
        """Where ``path`` leads through symbolic links; "" when that is nowhere."""
        for _ in range(_LINKS):
            link = next((each for each in _with_parents(path) if self._is_link(each)), None)
            if link is None:
                return path if path in self.entries else ""
            rest = path[len(link) :].lstrip("/")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(link), self.entries[link].target, rest)).lstrip(
                "/"
            )
        return ""

    def _is_link(self, path: str) -> bool:
        entry = self.entries.get(path)
        return entry is not None and entry.kind == "link"

    def _forget(self, path: str, *, itself: bool, but: set[str]) -> None:
        inside = f"{path}/"
        lost = [each for each in self.entries if each.startswith(inside) and each not in but]
        for each in (*lost, *([path] if itself else [])):
            self.entries.pop(each, None)
            self.versions.pop(each, None)


def _with_parents(path: str) -> Iterator[str]:
    """``usr/bin/x`` -> ``usr``, ``usr/bin``, ``usr/bin/x``."""
    parts = path.split("/")
    yield from ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _require_glibc(tree: Tree, oldest: str, where: str) -> str:
    if not tree.versions:
        musl = any(_MUSL.fullmatch(path) for path in tree.entries)
        raise StepError(
            "the base has musl, and the wheels need glibc" if musl else "the base has no C library",
            where=where,
            hint="take an image of Debian, Ubuntu, Fedora, Wolfi or a distroless one, not Alpine or scratch",
        )
    found = max(tree.versions.values())
    major, _, minor = oldest.partition(".")
    if found < (int(major), int(minor)):
        raise StepError(
            f"the base has glibc {found[0]}.{found[1]}, and it is compiled for {oldest} or newer",
            where=where,
            hint="take a newer base",
        )
    return f"{found[0]}.{found[1]}"


def _require_python(tree: Tree, version: str, where: str) -> str:
    found = [(path, match[1]) for path in tree.entries if (match := _PYTHON.fullmatch(path))]
    fitting = [path for path, each in found if each == version and tree.resolve(path)]
    if not fitting:
        others = sorted({each for _, each in found}, key=lambda each: int(each.partition(".")[2]))
        said = f"Python {', '.join(others)}" if others else "no Python"
        raise StepError(
            f"the base has {said}, and it is compiled for {version}",
            where=where,
            hint="set targets.container.base.python to what it has"
            if others
            else "take a base with Python 3.11 or newer",
        )
    order = {folder: number for number, folder in enumerate(_FIRST)}
    python = min(fitting, key=lambda path: (order.get(posixpath.dirname(path), len(order)), path))
    prefix = posixpath.dirname(posixpath.dirname(tree.resolve(python)))
    libraries = (posixpath.join(prefix, name, f"python{version}/os.py") for name in ("lib", "lib64"))
    if not any(tree.resolve(path) for path in libraries):
        raise StepError(f"/{python} of the base has no standard library beside it", where=where)
    return python


def _file(source: Source, name: str) -> bytes:
    found = source.file(name)
    if found is None:
        raise TargetError(f"the source has no {name}", where=source.uri)
    return found.location.read_bytes()
