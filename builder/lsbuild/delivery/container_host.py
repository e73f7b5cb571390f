"""Writes what a machine with podman needs to run an image by signed updates: a folder with the updater and its units.

It holds no image: the first version comes as an update like every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

import lsbuild_runtime
from lsbuild import inspection
from lsbuild.api import Manifest
from lsbuild.errors import TargetError
from lsbuild.packing import updater
from lsbuild.packing.archive import Member, gzip_stream, source_date_epoch, with_folders, write_tar
from lsbuild.packing.systemd import Unit
from lsbuild.packing.updater import Updates
from lsbuild_runtime.manifest import FILE_NAME, to_json

_PYTHON = "3"
"""Any: the updater needs 3.11 and the standard library, and says so."""
_UNIT = """\
[Unit]
Description={product}, compiled by lsbuild, as a container
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
Environment=LSBUILD_HOST={host} LSBUILD_PORT={port} LSBUILD_PODMAN=
EnvironmentFile=-/etc/lsbuild/{name}.env
ExecStartPre={root}/update begin
# LSBUILD_PODMAN are further words of `podman run`, like --memory=2g or --env-file.
ExecStart=/usr/bin/python3 -I -S -B -c \\
    "import sys; sys.path.insert(0, '{root}/app'); from lsbuild_runtime.updates.start_image import main; main(sys.argv[1:])" \\
    {name} {product} {root} {updates} --network=host --read-only --tmpfs=/tmp --cap-drop=ALL \\
    --security-opt=no-new-privileges --volume={name}:/var/lib/lsbuild:U --env=LSBUILD_STATE=/var/lib/lsbuild $LSBUILD_PODMAN \\
    -- --host ${{LSBUILD_HOST}} --port ${{LSBUILD_PORT}}
ExecStop=/usr/bin/podman stop --ignore --time=40 {name}
Restart=on-failure
RestartSec=5
TimeoutStartSec=600
TimeoutStopSec=60
SyslogIdentifier={name}

[Install]
WantedBy=multi-user.target
"""


def write(artifact: Path, platform: str, options: Updates, out: Path) -> str:
    """Write the tar ``out`` for one of the images of ``artifact``; returns the unit's name. Raises VerifyError, TargetError."""
    manifest = _manifest(artifact, platform)
    if out.exists():
        raise TargetError("there is a file already", where=str(out), hint="name another --out, or remove it")
    if not out.parent.is_dir():
        raise TargetError("its folder does not exist", where=str(out))
    name = unit_name(manifest)
    with out.open("xb") as raw, gzip_stream(raw) as packed:
        write_tar(cast("IO[bytes]", packed), with_folders(members(manifest, options)), source_date_epoch())
    return name


def unit_name(manifest: Manifest) -> str:
    """Name of the unit, of its folder below /opt and of the container."""
    return f"lsbuild-{manifest.name.replace('_', '-')}"


def members(manifest: Manifest, options: Updates) -> Iterator[Member]:
    """The files of the tar: one folder that is unpacked in /opt."""
    name = unit_name(manifest)
    made = Unit(
        name=name,
        description="",
        python=_PYTHON,
        root=f"/opt/{name}",
        host=manifest.server.host,
        port=manifest.server.port,
        environment=f"/etc/lsbuild/{name}.env",
        memory=0,
        threads=0,
        updater=f"/opt/{name}/update",
        updates=updater.folder(name),
    )
    yield Member(f"{name}/{FILE_NAME}", to_json(manifest))
    yield Member(f"{name}/{made.file}", service(made, manifest.name))
    yield from updater.in_folder(made, options, name)
    yield from (Member(f"{name}/app/{path}", content) for path, content in _code())


def service(unit: Unit, product: str) -> bytes:
    """The text of the unit's file."""
    return _UNIT.format(
        product=product, name=unit.name, host=unit.host, port=unit.port, root=unit.root, updates=unit.updates
    ).encode()


def _code() -> Iterable[tuple[str, bytes]]:
    package = Path(lsbuild_runtime.__file__).parent
    for path in (package / "__init__.py", *sorted((package / "updates").glob("*.py"))):
        yield path.relative_to(package.parent).as_posix(), path.read_bytes()


def _manifest(artifact: Path, platform: str) -> Manifest:
    found = inspection.inspect(artifact)
    if found.target.name != "container":
        raise TargetError(
            f"is an artifact of target {found.target.name}, not an image",
            where=str(artifact),
            hint="packages of rpi and jetson bring their own updater: set `updates` of their target",
        )
    wanted = [manifest for manifest in found.manifests if platform in ("", manifest.platform)]
    if len(wanted) != 1:
        there = ", ".join(manifest.platform for manifest in found.manifests)
        raise TargetError(f"it has {there}", where=str(artifact), hint="choose one with --platform")
    return wanted[0]
