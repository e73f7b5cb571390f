"""What a package brings beside its bundle so that its device can be updated: a program, its settings, its units."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from lsbuild.packing.archive import Member
from lsbuild.packing.systemd import Unit
from lsbuild_runtime.updates import keys

STATE = "lsbuild-updates"
"""Folder below /var/lib that all updated units of a device share."""
_PROGRAM = """\
#!/bin/sh
# Updates {name}: check, fetch, apply, commit, rollback, status.
exec /usr/bin/python{python} -I -S -B -X utf8 -c \\
    "import sys; sys.path.insert(0, '{root}/app'); from lsbuild_runtime.updates.main import main; sys.exit(main(sys.argv[1:]))" \\
    --unit {name} --factory {root} --updates {updates} --settings {settings} --environment {environment} "$@"
"""
_SERVICE = """\
[Unit]
Description=Update of {name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={program} apply
TimeoutStartSec=6h
StandardOutput=journal
StandardError=journal
SyslogIdentifier={name}-update
Nice=10
IOSchedulingClass=idle

# It is root, for the server may not write what it runs; it can write its own folder and nothing else.
StateDirectory={state}/{name}
StateDirectoryMode=0755
UMask=0022
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
_TIMER = """\
[Unit]
Description=Look for updates of {name} every day

[Timer]
OnCalendar=daily
RandomizedDelaySec=4h
Persistent=yes

[Install]
WantedBy=timers.target
"""


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Updates(BaseModel):
    """Whose updates a device takes, and from where."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    keys: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(min_length=1)
    """Public keys that are trusted, as `lsbuild key new` prints them; any one of them is enough."""
    url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Folder of updates on a web server. Without one updates are brought as files."""

    @field_validator("keys")
    @classmethod
    def _are_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(keys.to_text(keys.parse(text)) for text in value)


def folder(name: str) -> str:
    """Where the versions of a unit are kept."""
    return f"/var/lib/{STATE}/{name}"


def settings_path(name: str) -> str:
    """Where the administrator sets keys and address."""
    return f"etc/lsbuild/{name}.updates.json"


def program(unit: Unit, settings_file: str) -> bytes:
    """The text of the program that ``unit.updater`` names."""
    text = _PROGRAM.format(
        name=unit.name,
        python=unit.python,
        root=unit.root,
        updates=unit.updates,
        settings=settings_file,
        environment=unit.environment,
    )
    return text.encode()


def settings(options: Updates) -> bytes:
    """The text of the administrator's file."""
    return json.dumps({"keys": list(options.keys), "url": options.url}, indent=2).encode() + b"\n"


def units(unit: Unit) -> Iterator[tuple[str, bytes]]:
    """Names and texts of its units: one that updates now, and a timer, which nobody has turned on."""
    values = {"name": unit.name, "program": unit.updater, "state": STATE}
    yield f"{unit.name}-update.service", _SERVICE.format_map(values).encode()
    yield f"{unit.name}-update.timer", _TIMER.format_map(values).encode()


def in_folder(unit: Unit, options: Updates, name: str) -> Iterator[Member]:
    """The files of a package that is one folder, which lies at ``unit.root``."""
    yield Member(f"{name}/update", program(unit, f"{unit.root}/updates.json"), 0o755)
    yield Member(f"{name}/updates.json", settings(options))
    yield from (Member(f"{name}/{file}", text) for file, text in units(unit))


def installed(unit: Unit, options: Updates, units_folder: str) -> Iterator[Member]:
    """The files of a package that is installed into the system."""
    yield Member(unit.updater.removeprefix("/"), program(unit, f"/{settings_path(unit.name)}"), 0o755)
    yield Member(settings_path(unit.name), settings(options))
    yield from (Member(f"{units_folder}/{name}", text) for name, text in units(unit))
