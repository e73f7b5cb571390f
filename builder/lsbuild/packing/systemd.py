"""Writes the systemd unit of an artifact: its own user, a read-only system, limits, a watchdog, JSON lines in the journal."""

from __future__ import annotations

from dataclasses import dataclass

from lsbuild.packing.boot import BOOTSTRAP


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs between the units of two artifacts. ``root`` is where the bundle lies, ``memory`` in bytes."""

    name: str
    description: str
    python: str
    root: str
    host: str
    port: int
    environment: str
    """A file with lines NAME=VALUE that may be absent: where to listen, and secrets."""
    memory: int
    threads: int
    updater: str = ""
    """The program that updates it (``updater.py``); "" where nothing does."""
    updates: str = ""
    """The folder that it keeps versions in."""
    groups: tuple[str, ...] = ()
    """Groups whose device files it may open (``video``, ``render``); without any it sees no devices at all."""

    @property
    def file(self) -> str:
        """Name of the unit's file."""
        return f"{self.name}.service"


_TEXT = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
Environment=LSBUILD_HOST={host} LSBUILD_PORT={port} LANG=C.UTF-8
EnvironmentFile=-{environment}
{start} --host ${{LSBUILD_HOST}} --port ${{LSBUILD_PORT}}
Restart=on-failure
RestartSec=5
TimeoutStartSec=300
TimeoutStopSec=45
WatchdogSec=60
StandardOutput=journal
StandardError=journal
SyslogIdentifier={name}

# What it may use. A kernel that was started with cgroup_disable=memory does not know MemoryMax.
MemoryHigh={high}
MemoryMax={memory}
MemorySwapMax=0
CPUQuota={quota}%
CPUAffinity={cores}
TasksMax=256
LimitNOFILE=4096
OOMPolicy=stop

# What it may touch: its state folder and the network.
DynamicUser=yes
StateDirectory={name}
StateDirectoryMode=0700
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
{devices}
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
# Tools in Python are run in namespaces of their own.
RestrictNamespaces=user net
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp
SystemCallFilter=~@obsolete @clock @module @raw-io @reboot @swap
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


_DEVICES = """\
# The GPU's devices belong to these groups; their names differ between modules, so no list is given here.
PrivateDevices=no
SupplementaryGroups={groups}"""


def service(unit: Unit) -> bytes:
    """The text of the unit's file."""
    text = _TEXT.format(
        name=unit.name,
        description=unit.description.replace("%", "%%"),
        host=unit.host,
        port=unit.port,
        environment=unit.environment,
        start=_start(unit),
        high=unit.memory // 10 * 9,
        memory=unit.memory,
        # A little is left for whoever logs in to see what the server is doing.
        quota=unit.threads * 95,
        cores=" ".join(map(str, range(unit.threads))),
        devices=_DEVICES.format(groups=" ".join(unit.groups)) if unit.groups else "PrivateDevices=yes",
    )
    return text.encode()


def _start(unit: Unit) -> str:
    """The lines that start the server, without its options."""
    python = f"/usr/bin/python{unit.python} -I -S -B -X utf8"
    if unit.updater:
        # `+`: as root and outside of the sandbox, for it writes down what is about to start.
        launcher = f"{python} {unit.root}/app/lsbuild_runtime/updates/start.py {unit.root} {unit.updates}"
        return f"ExecStartPre=+{unit.updater} begin\nExecStart={launcher}"
    # `$` and `%` mean something to systemd; the bootstrap has neither, nor a double quote.
    return f'ExecStart={python} -c "{BOOTSTRAP}" --root {unit.root}'
