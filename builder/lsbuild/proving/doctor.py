"""``lsbuild doctor`` from top to bottom: the machine, plugins and targets, and the programs that their proofs take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from lsbuild import disk, registry
from lsbuild.api import Target
from lsbuild.errors import LsbuildError, TargetError
from lsbuild.proving import machine
from lsbuild.proving.machine import Finding
from lsbuild.sources import debian_archive, index
from lsbuild.suggest import did_you_mean
from lsbuild.toolbox import QEMU_USER, Tool, major

_PLUGIN = ("provider", "kinds", "check", "compile")
_TARGET = ("name", "wheels", "Options", "platforms", "sources", "steps", "pack", "manifests", "verify")
_SECONDS = 20.0
_SIGNS = {"ok": "ok", "note": "note", "missing": "missing", "fault": "FAULT"}


def examine(targets: Sequence[str] = (), *, network: bool = False) -> Iterator[Finding]:
    """Everything, as it is found; with ``targets`` only their programs. TargetError for one that there is not."""
    known = registry.find()
    for name in targets:
        if name not in known.targets:
            raise TargetError(f"unknown target '{name}'.{did_you_mean(name, known.targets)}")
    yield from machine.python()
    yield from machine.hardware()
    yield from machine.folders(disk.folder_from(os.environ))
    yield _uv()
    yield from machine.kernel()
    yield from _loaded("plugins", known.plugins, registry.PLUGINS, _PLUGIN)
    yield from _loaded("targets", known.targets, registry.TARGETS, _TARGET)
    yield from _tools([name for name in known.targets if not targets or name in targets], known)
    if network:
        yield from _network()


def fetch() -> None:
    """Bring what can be brought and is missing: a QEMU for arm64. SourceError when it cannot be had."""
    if QEMU_USER.fault():
        from lsbuild.proving import fetched  # reads Debian packages, which nothing else here does

        fetched.qemu()


def _uv() -> Finding:
    try:
        from uv import find_uv_bin

        path = find_uv_bin()
    except (ImportError, FileNotFoundError) as error:
        return Finding("python", "uv", "fault", f"not here, and wheels are resolved with it: {error}", "pip install uv")
    return Finding("python", "uv", "ok", f"{path}; it resolves the wheels of every platform")


def _loaded(area: str, known: Mapping[str, str], ours: Mapping[str, str], members: Sequence[str]) -> Iterator[Finding]:
    """Ours in one line, everybody else's by name; each is imported, since only that shows a broken one."""
    good = 0
    for name, entry in sorted(known.items()):
        verdict = _broken(entry, members)
        foreign = ours.get(name) != entry
        if verdict:
            remedy = f"pip uninstall or mend the package of {entry}" if foreign else "install lsbuild again"
            yield Finding(area, name, "fault", verdict, remedy)
        elif foreign:
            yield Finding(
                area,
                name,
                "ok",
                f"of {_package(f'lsbuild.{area}', name)}{', in the place of ours' if name in ours else ''}",
            )
        else:
            good += 1
    yield Finding(area, f"lsbuild's {area}", "ok", f"{good} of {len(ours)} load")


def _broken(entry: str, members: Sequence[str]) -> str:
    """Why the object that an entry names cannot be used; "" when it can."""
    try:
        found = registry.attribute(entry)
    except LsbuildError as error:
        return error.what
    except Exception as error:  # whatever a stranger's module does when it is imported
        return f"{entry} cannot be loaded: {type(error).__name__}: {error}"
    lacking = [name for name in members if not hasattr(found, name)]
    return f"{entry} has no {', '.join(lacking)}" if lacking else ""


def _package(group: str, name: str) -> str:
    """The distribution that brings the entry point, with its version."""
    for entry in metadata.entry_points(group=group, name=name):
        if entry.dist is not None:
            return f"{entry.dist.name} {entry.dist.version}"
    return "an unknown package"


def _tools(names: Iterable[str], known: registry.Registry) -> Iterator[Finding]:
    """Each program once, with the targets that use it."""
    users: dict[Tool, list[str]] = {}
    for name in names:
        for tool in _tools_of(known, name):
            users.setdefault(tool, []).append(name)
    for tool, targets in users.items():
        said = f"for {', '.join(targets)}"
        if fault := tool.fault():
            told, _, _ = fault.partition("; ")
            yield Finding("tools", tool.name, "missing", f"{told} ({said})", tool.get)
        else:
            path = tool.path()
            version = f", version {major(path)}" if tool.oldest else ""
            yield Finding("tools", tool.name, "ok", f"{path}{version}: {tool.what} ({said})")


def _tools_of(known: registry.Registry, name: str) -> tuple[Tool, ...]:
    try:
        target: Target = known.target(name)
    except Exception:  # ``_loaded`` has told what is wrong with it
        return ()
    found: tuple[Tool, ...] = getattr(target, "tools", ())
    return found


def _network() -> Iterator[Finding]:
    """Whether the package index and the Debian archive answer; the only part that opens connections."""
    remedy = "check the network, and the index that pip and uv are configured for"
    try:
        with TemporaryDirectory(prefix="lsbuild-doctor-") as folder:
            asked = Path(folder, "requirements.in")
            asked.write_text("msgspec\n")
            index.uv(["pip", "compile", "--quiet", "--no-cache", "--no-header", "--no-deps", str(asked)], "msgspec")
        yield Finding("network", "package index", "ok", "it answers, as uv and pip are configured")
    except LsbuildError as error:
        yield Finding("network", "package index", "fault", error.what.splitlines()[-1].strip(), remedy)
    try:
        with urlopen(f"{debian_archive.mirrors().main}/dists/stable/InRelease", timeout=_SECONDS) as answer:  # noqa: S310
            answer.read(1)
        yield Finding("network", "Debian archive", "ok", "the mirror of apt's configuration answers")
    except LsbuildError as error:
        yield Finding("network", "Debian archive", "missing", error.what, error.hint)
    except (OSError, ValueError) as error:
        said = f"the mirror of apt's configuration does not answer: {error}"
        yield Finding("network", "Debian archive", "missing", said, "images and packages take their base from it")


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """For ``--json``; ``ok`` is False when something stops builds."""
    return {
        "ok": not any(each.verdict == "fault" for each in findings),
        "findings": [asdict(each) for each in findings],
    }


def to_text(findings: Sequence[Finding]) -> str:
    """For people: by area, each with what to do."""
    lines: list[str] = []
    for area in dict.fromkeys(each.area for each in findings):
        lines += [area]
        for each in findings:
            if each.area == area:
                lines += [f"  {_SIGNS[each.verdict]:<8}{each.name:<20} {each.said}"]
                lines += [f"  {'':<8}{'':<20} -> {each.remedy}"] if each.remedy else []
    counts = {sign: sum(each.verdict == verdict for each in findings) for verdict, sign in _SIGNS.items()}
    missing = f", {counts['missing']} missing that proofs would use" if counts["missing"] else ""
    faults = f"{counts['FAULT']} faults that stop builds" if counts["FAULT"] else "nothing stops builds"
    return "\n".join([*lines, "", f"{faults}{missing}"])
