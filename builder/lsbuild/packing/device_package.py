"""What lies where in a package for a device with systemd: the bundle, its unit, its settings; and the scripts of the .deb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lsbuild.api import Bundle, Manifest
from lsbuild.packing import launcher, updater
from lsbuild.packing.archive import Member
from lsbuild.packing.systemd import Unit, service
from lsbuild.packing.updater import Updates
from lsbuild.secret_names import secrets_of

UNITS = "usr/lib/systemd/system"
_SETTINGS = """\
# Settings of {name}; `systemctl restart {name}` makes them count.
# Where it listens: 127.0.0.1 is this machine only, 0.0.0.0 every network it is in.
#LSBUILD_HOST={host}
#LSBUILD_PORT={port}
"""
_README = """\
{name}, compiled by lsbuild {lsbuild}.

Its Python packages lie in /{root}/site, each with its licence in NAME.dist-info.
Licences of models and documents are those of their sources.
"""
_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    deb-systemd-helper unmask {unit} >/dev/null || true
    if deb-systemd-helper --quiet was-enabled {unit}; then
        deb-systemd-helper enable {unit} >/dev/null || true
    else
        deb-systemd-helper update-state {unit} >/dev/null || true
    fi
    if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        deb-systemd-invoke restart {unit} || true
    fi
fi
"""
_PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop {unit} || true
fi
"""
_POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    if [ -x /usr/bin/deb-systemd-helper ]; then deb-systemd-helper purge {unit} >/dev/null || true; fi
    rm -rf "$DPKG_ROOT/var/lib/private/{name}" "$DPKG_ROOT/var/lib/{name}" "$DPKG_ROOT/var/lib/lsbuild-updates/{name}"
fi
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
"""


@dataclass(frozen=True, slots=True)
class Device:
    """What packages say of the device they are for. ``memory`` in bytes and ``threads`` are the limits of the server;
    ``groups`` are those whose device files it may open, ``updates`` whose updates it takes.
    """

    title: str
    python: str
    memory: int
    threads: int
    version: str
    maintainer: str
    groups: tuple[str, ...] = ()
    updates: Updates | None = None


def package_name(manifest: Manifest) -> str:
    """Name of the .deb, of its folder and of its unit. The prefix keeps it apart from packages of the distribution."""
    return f"lsbuild-{manifest.name.replace('_', '-')}"


def settings_path(name: str) -> str:
    """Where the administrator sets address and secrets."""
    return f"etc/lsbuild/{name}.env"


def unit(bundle: Bundle, device: Device, root: str, program: str) -> Unit:
    """The unit of a bundle that lies in ``root``; ``program`` updates it, where the device takes updates."""
    manifest, name = bundle.manifest, package_name(bundle.manifest)
    return Unit(
        name=name,
        description=f"{manifest.name}, compiled by lsbuild",
        python=device.python,
        root=root,
        host=manifest.server.host,
        port=manifest.server.port,
        environment=f"/{settings_path(name)}",
        memory=device.memory,
        threads=device.threads,
        groups=device.groups,
        updater=program if device.updates else "",
        updates=updater.folder(name) if device.updates else "",
    )


def installed(bundle: Bundle, device: Device) -> Iterator[Member]:
    """The files of the .deb."""
    name = package_name(bundle.manifest)
    root = f"usr/lib/{name}"
    manifest = bundle.manifest
    yield from (Member(f"{root}/{file.path}", file.content, file.mode) for file in bundle.files)
    made = unit(bundle, device, f"/{root}", f"/usr/bin/{name}-update")
    yield Member(f"{UNITS}/{made.file}", service(made))
    if device.updates:
        yield from updater.installed(made, device.updates, UNITS)
    yield Member(f"{root}/run", launcher.script(bundle.platform), 0o755)
    # Readable by root alone, as systemd reads it: secrets are written here.
    yield Member(settings_path(name), _settings(manifest, name), 0o600)
    readme = _README.format(name=manifest.name, lsbuild=manifest.lsbuild, root=root)
    yield Member(f"usr/share/doc/{name}/copyright", readme.encode())


def folder(bundle: Bundle, device: Device) -> Iterator[Member]:
    """The files of the tar: one folder that runs where it lies, and whose unit expects it in /opt."""
    name = package_name(bundle.manifest)
    yield from (Member(f"{name}/{file.path}", file.content, file.mode) for file in bundle.files)
    made = unit(bundle, device, f"/opt/{name}", f"/opt/{name}/update")
    yield Member(f"{name}/{made.file}", service(made))
    if device.updates:
        yield from updater.in_folder(made, device.updates, name)
    yield Member(f"{name}/run", launcher.script(bundle.platform), 0o755)


def fields(bundle: Bundle, device: Device) -> Mapping[str, str]:
    """The control file."""
    major, minor = device.python.split(".")
    python = f"python3 (>= {device.python}), python3 (<< {major}.{int(minor) + 1})"
    names = ", ".join(service.name for service in bundle.manifest.services)
    return {
        "Package": package_name(bundle.manifest),
        "Version": device.version,
        "Architecture": "arm64",
        "Maintainer": device.maintainer,
        "Depends": f"{python}, libc6 (>= {bundle.platform.glibc}), libstdc++6, init-system-helpers (>= 1.51)",
        "Recommends": "ca-certificates",
        "Section": "misc",
        "Priority": "optional",
        "Description": f"{bundle.manifest.name}, compiled by lsbuild\n"
        f"A server with the OpenAI and Llama Stack API for a {device.title}.\n"
        f"It serves: {names or 'nothing'}.",
    }


def scripts(name: str) -> Mapping[str, str]:
    """What dpkg runs: the unit is enabled and started, stopped before removal, and its state goes with a purge."""
    values = {"name": name, "unit": f"{name}.service"}
    found = {"postinst": _POSTINST, "prerm": _PRERM, "postrm": _POSTRM}
    return {script: text.format_map(values) for script, text in found.items()}


def _settings(manifest: Manifest, name: str) -> bytes:
    text = _SETTINGS.format(name=name, host=manifest.server.host, port=manifest.server.port)
    secrets = secrets_of(manifest)
    if secrets:
        text += "# Secrets that the spec names.\n" + "".join(f"#{secret}=\n" for secret in secrets)
    return text.encode()
