"""Target ``rpi``: a .deb and a tar for 64-bit Raspberry Pis, with a hardened systemd unit; limits follow the board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

from pydantic import BaseModel

from lsbuild import bytecode, toolbox
from lsbuild.api import SERVER_WHEELS, Artifact, Bundle, Check, Installed, Manifest, Platform, Slot, Source, Step
from lsbuild.delivery.remote import Remote
from lsbuild.packing import deb_write, native, slots
from lsbuild.packing.archive import (
    check_paths,
    file_sha256,
    gzip_stream,
    normalise,
    source_date_epoch,
    tree_sha256,
    tree_size,
    with_folders,
    write_tar,
)
from lsbuild.packing.debian_base import SUITES, bytecode_steps, tools_uri, uri
from lsbuild.packing.place import new_folder
from lsbuild_runtime.manifest import FILE_NAME, from_json, to_json
from lsbuild_targets.rpi import base, boot_card, contents, disk, image, record, system
from lsbuild_targets.rpi.options import Options, checked

_BASE, _SYSTEM = "base", "system"


class RaspberryPi:
    """Packs one bundle; implements ``lsbuild.api.Target``."""

    name = "rpi"
    wheels = SERVER_WHEELS
    tools = (
        toolbox.UNSHARE,
        toolbox.QEMU_USER,
        toolbox.SYSTEMD_ANALYZE,
        toolbox.SSH,
        *dict.fromkeys((*disk.TOOLS, *boot_card.TOOLS)),
    )
    Options: type[BaseModel] = Options

    def platforms(self, options: BaseModel) -> tuple[Platform, ...]:
        """64-bit ARM with the Python and the glibc of the system on the board."""
        python, _, glibc = SUITES[checked(options).base.suite]
        return (Platform("aarch64", python, glibc),)

    def sources(self, options: BaseModel, platform: Platform) -> Mapping[str, str]:
        """``debs``: the system that it is checked on; ``tools``: the same Python for this machine, which compiles bytecode."""
        mirror = checked(options).base
        found = {"debs": uri(mirror.suite, mirror, platform.arch)}
        if not bytecode.matches(platform.python):
            found["tools"] = tools_uri(mirror.suite, mirror)
        return {**found, **system.sources(checked(options))} if "image" in checked(options).package else found

    def steps(self, options: BaseModel, platform: Platform, sources: Mapping[str, Source]) -> Mapping[str, Step]:
        """Bytecode, unless lsbuild runs on the very Python of the board; the packages it is checked on; an image's system."""
        steps = {_BASE: base.step(platform, sources["debs"])}
        if "image" in checked(options).package:
            steps[_SYSTEM] = system.step(platform, {name: sources[name] for name in system.sources(checked(options))})
        return steps | (bytecode_steps(platform, sources["tools"]) if "tools" in sources else {})

    def pack(self, bundles: tuple[Bundle, ...], options: BaseModel, out: Path) -> Artifact:
        """Write the folder ``out``: the packages, ``manifest.json`` and ``artifact.json``."""
        chosen = checked(options)
        (bundle,) = bundles
        check_paths(file.path for file in bundle.files)
        native.require_pages(_on_disk(bundle), chosen.board.page)
        mtime = source_date_epoch()
        with new_folder(out, is_artifact) as folder:
            files = dict(_packages(bundle, chosen, folder, mtime))
            (folder / FILE_NAME).write_bytes(to_json(bundle.manifest))
            (folder / record.FILE).write_bytes(record.to_json(_record(bundle, chosen, files, folder)))
            normalise(folder, mtime)
        sent = {name: (out / name).stat().st_size for name in files.values()}
        return Artifact(
            out, tree_sha256(out), tree_size(out), f"{chosen.board.title}: {', '.join(files.values())}", sent
        )

    def manifests(self, artifact: Path) -> tuple[Manifest, ...]:
        """The manifest beside the packages; nothing for anything else."""
        return (from_json((artifact / FILE_NAME).read_bytes()),) if is_artifact(artifact) else ()

    def verify(self, artifact: Path, ask: Callable[[str], Iterable[Check]]) -> Iterable[Check]:
        """Check the files and the unit, then install it into a system of its own and boot it there under QEMU."""
        from lsbuild_targets.rpi import proof

        return proof.verify(artifact, ask)

    def push(self, artifact: Path, remote: Remote, say: Callable[[str], None]) -> Installed:
        """Install the .deb over ssh; implements ``lsbuild.api.Pushes``."""
        from lsbuild_targets.rpi import push

        return push.push(artifact, remote, say)

    def slots(self, artifact: Path, scratch: Path) -> tuple[Slot, ...]:
        """The bundle inside a package; implements ``lsbuild.api.Updates``."""
        found = record.read(artifact)
        return (slots.of_packages(artifact, found.files, found.unit, scratch),) if found else ()


TARGET = RaspberryPi()


def is_artifact(folder: Path) -> bool:
    """Whether this target wrote the folder."""
    return folder.is_dir() and (folder / FILE_NAME).is_file() and record.read(folder) is not None


def _on_disk(bundle: Bundle) -> Iterator[tuple[str, Path]]:
    for file in bundle.files:
        if isinstance(file.content, Path):
            yield file.path, file.content


def _packages(bundle: Bundle, options: Options, folder: Path, mtime: int) -> Iterator[tuple[str, str]]:
    """Write each package; gives its kind and its file's name."""
    name, device = contents.package_name(bundle.manifest), contents.device(options)
    stem = f"{name}_{options.version}_arm64"
    if "deb" in options.package:
        fields, scripts = contents.fields(bundle, device), contents.scripts(name)
        deb_write.write(folder / f"{stem}.deb", fields, scripts, contents.installed(bundle, device), mtime)
        yield "deb", f"{stem}.deb"
    if "tar" in options.package:
        with (folder / f"{stem}.tar.gz").open("xb") as raw, gzip_stream(raw) as packed:
            write_tar(cast("IO[bytes]", packed), with_folders(contents.folder(bundle, device)), mtime)
        yield "tar", f"{stem}.tar.gz"
    if "image" in options.package:
        image.write(folder / f"{stem}{image.ENDING}", bundle, options, bundle.extras[_SYSTEM], mtime)
        yield "image", f"{stem}{image.ENDING}"


def _record(bundle: Bundle, options: Options, files: Mapping[str, str], folder: Path) -> record.Record:
    uri_of_base, packages = base.read(bundle.extras[_BASE])
    return record.Record(
        unit=contents.package_name(bundle.manifest),
        profile=options.profile,
        python=options.python,
        glibc=bundle.platform.glibc,
        files=files,
        hashes={kind: file_sha256(folder / name) for kind, name in files.items()},
        base_uri=uri_of_base,
        base=packages,
        firmware=image.firmware_of(options) if "image" in files else "",
    )
