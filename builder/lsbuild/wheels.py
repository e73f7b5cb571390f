"""Python wheels for a platform: how they are named as a source, and the step that unpacks, trims and checks them.

Resolving and fetching is ``sources.wheels``'; which files are left out is ``prune``'s.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from lsbuild import bytecode, prune, reach
from lsbuild.api import Json, Platform, Source, SourceError, SourceFile, Step, StepContext
from lsbuild.packing import native

SITE = "site"
"""The folder of the bundle with the wheels that the runtime and the serve halves import."""
_WHOLE = "/whole"
_USED = ("packing.native", "packing.elf", "prune", "reach", "bytecode")


def source_uri(platform: Platform, requirements: Iterable[str], *, whole: bool = False) -> str:
    """The canonical URI of the wheels that satisfy ``requirements`` on ``platform``; fetched by ``sources.resolve``.

    ``whole`` ones are somebody's own, not the runtime's: nothing of them is left out.
    """
    wanted = sorted({requirement.replace(" ", "") for requirement in requirements})
    tail = "&".join(quote(requirement, safe="[]<>=!~,.;*'") for requirement in wanted)
    return f"wheels:{platform.tag}-glibc{platform.glibc}{_WHOLE if whole else ''}?{tail}"


def require_python(platform: Platform, specifier: str, where: str) -> None:
    """SourceError unless the platform's Python, in any of its patches, fits ``specifier`` (``>=3.10,<4``; "" for any)."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # only where a tool says what it needs

    try:
        wanted = SpecifierSet(specifier)
    except InvalidSpecifier as error:
        raise SourceError(
            f"{specifier!r} is no version specifier", where=where, hint="Write it like '>=3.11'."
        ) from error
    if not any(wanted.contains(f"{platform.python}.{patch}") for patch in (0, 99)):
        raise SourceError(
            f"needs Python {specifier}, the target {platform.tag} has {platform.python}",
            where=where,
            hint="Change requires-python of the file's PEP 723 metadata, or the target's Python.",
        )


def step(
    platform: Platform,
    uri: str,
    source: Source,
    folder: str = SITE,
    only: Mapping[str, Iterable[str]] | None = None,
    beside: Iterable[str] = (),
) -> Step:
    """The step that turns the wheels of ``source``, fetched for ``uri``, into ``folder`` of the bundle.

    ``only`` are the modules of distributions that ship (`api.Compiled.only`), ``beside`` distributions of other steps that
    lie in the same folder (see ``prune.keeps``).
    """
    return Step(
        name=f"wheels.{platform.tag}" if folder == SITE else f"{folder.replace('/', '.')}.{platform.tag}",
        run="lsbuild.wheels:unpack",
        options={
            "uri": uri,
            "arch": platform.arch,
            "glibc": platform.glibc,
            "level": platform.level,
            "bytecode": bytecode.compiler(platform.python),
            "only": {name: sorted(modules) for name, modules in (only or {}).items()},
            "beside": sorted(beside),
        },
        sources={"wheels": source},
        code=(
            "lsbuild.wheels",
            "lsbuild.packing.native",
            "lsbuild.packing.elf",
            "lsbuild.prune",
            "lsbuild.reach",
            "lsbuild.bytecode",
        ),
        ship=folder,
        part="wheels",
    )


def unpack(context: StepContext) -> Mapping[str, Json]:
    """Unpack every wheel into ``out`` without what ``prune`` names, check native files, compile bytecode.

    Returns ``wheels`` (distribution -> version), ``pruned`` (bytes left out), ``glibc`` (the newest that is needed) and
    ``bytecode`` (compiled files; None when the platform runs another Python than this one, which compiles at start).
    Raises TargetError for a native file that cannot run on the platform, SourceError for a damaged wheel.
    """
    files = context.sources["wheels"].files
    whole = _WHOLE in context.options["uri"].partition("?")[0]
    versions = dict(split_name(file.path) for file in files)
    beside = {*versions, *context.options["beside"]}
    pruned = 0
    for done, file in enumerate(files):
        context.progress(done, len(files), file.path)
        name, _ = split_name(file.path)
        only = context.options["only"].get(name)
        pruned += _unpack_one(file, "" if whole else name, beside, context.out, only)
    platform = context.options
    found = native.require([context.out], platform["arch"], platform["glibc"], platform["level"])
    compiled = bytecode.compile_tree(context.out) if context.options["bytecode"] else None
    context.progress(len(files), len(files), "")
    return {"wheels": versions, "pruned": pruned, "glibc": found.glibc, "bytecode": compiled}


def split_name(file_name: str) -> tuple[str, str]:
    """Distribution (as PEP 503 writes it) and version of a wheel's file name."""
    parts = file_name.removesuffix(".whl").split("-")
    if not file_name.endswith(".whl") or len(parts) < 5:
        raise SourceError("not the name of a wheel", where=file_name)
    return prune.normalised(parts[0]), parts[1]


def members(wheel: Path, name: str) -> Iterator[tuple[str, zipfile.ZipInfo, zipfile.ZipFile]]:
    """(path below site-packages, entry, archive) of every file of a wheel, in the archive's order.

    Raises SourceError for an entry that would leave the folder or is not a plain file. Scripts and headers of the
    ``.data`` folder (PEP 427) are left out: nothing in an artifact runs or compiles them.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                kind = entry.external_attr >> 16 & 0o170000
                if (
                    path.is_absolute()
                    or ".." in path.parts
                    or "\\" in entry.filename
                    or kind not in {0, 0o100000, 0o040000}
                ):
                    raise SourceError(f"holds the entry {entry.filename!r}, which no honest wheel has", where=name)
                if entry.is_dir():
                    continue
                if path.parts[0].endswith(".data") and len(path.parts) > 2:
                    if path.parts[1] not in {"purelib", "platlib"}:
                        continue
                    path = PurePosixPath(*path.parts[2:])
                yield path.as_posix(), entry, archive
    except zipfile.BadZipFile as error:
        raise SourceError(f"not a readable wheel: {error}", where=name) from error


def _unpack_one(file: SourceFile, name: str, beside: Collection[str], out: Path, only: Iterable[str] | None) -> int:
    """Unpack one wheel without what ``prune`` knows of ``name`` among those ``beside`` it, or ``only`` does not need.

    Returns the bytes left out.
    """
    with file.location.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
            raise SourceError("the cached file is damaged", where=str(file.location), hint="Delete it and build again.")
    left_out = 0
    wanted = None if only is None else _wanted(file, only)
    for path, entry, archive in members(file.location, file.path):
        if not prune.keeps(name, path, beside) or not (wanted is None or path in wanted or ".dist-info/" in path):
            left_out += entry.file_size
            continue
        data = archive.read(entry)
        target = out / path
        if target.exists() and target.read_bytes() != data:
            raise SourceError(f"brings another {path} than a wheel before it", where=file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return left_out


def _wanted(file: SourceFile, modules: Iterable[str]) -> frozenset[str]:
    """The files that ``modules`` of a distribution come to; SourceError when the wheel lacks one."""
    contents = {path: archive.read(entry) for path, entry, archive in members(file.location, file.path)}
    try:
        return reach.reached(contents, modules)
    except LookupError as error:
        raise SourceError(
            f"has no module {error.args[0]}, which a provider needs", where=file.path, hint="Pin another version of it."
        ) from error
