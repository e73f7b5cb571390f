"""What a server used of the processor and of memory since its process began, read from the kernel; it asks nobody.

CPU time, not wall time: a busy machine stretches the second and hardly the first. The kernel counts it in hundredths of a
second, and code for another architecture under QEMU is not measured at all, since that would be QEMU's time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_PROC = Path("/proc")
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LISTEN = "0A"
"""A listening socket's state in /proc/net/tcp."""


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time in milliseconds, resident memory in bytes."""

    cpu_ms: float
    memory: int


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    cpu_ms: float
    started: int
    memory: int


def now() -> int:
    """This moment as the kernel stamps the start of processes: ticks since the machine was booted."""
    with (_PROC / "uptime").open() as stream:
        return int(float(stream.read().split()[0]) * 1000 / _TICK_MS)


def used(base_url: str, since: int) -> Used | None:
    """What the process that listens at ``base_url`` used so far; None when it cannot be seen from here.

    Where this very process listens for it (a front door that hands requests on), it is what its children used that were
    started after ``since``.
    """
    pid = _listener(urlsplit(base_url).port or 0)
    if pid is None:
        return None
    processes = {each.pid: each for each in _processes()}
    counted = _below(pid, processes) if pid != os.getpid() else []
    if pid == os.getpid():
        children = [each for each in processes.values() if each.parent == pid and each.started >= since]
        counted = [each for child in children for each in _below(child.pid, processes)]
    if not counted:
        return None
    return Used(sum(each.cpu_ms for each in counted), sum(each.memory for each in counted))


def _below(pid: int, processes: dict[int, _Process]) -> list[_Process]:
    """The process and all that it started."""
    found = [processes[pid]] if pid in processes else []
    for each in processes.values():
        if each.parent == pid:
            found += _below(each.pid, processes)
    return found


def _listener(port: int) -> int | None:
    """The process that listens on that port of this machine's own network."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for folder in _PROC.iterdir() if sockets else ():
        if folder.name.isdigit() and not sockets.isdisjoint(_open_files(folder / "fd")):
            return int(folder.name)
    return None


def _open_files(folder: Path) -> Iterator[str]:
    """What the descriptors of a process stand for; nothing of a process that is gone or of somebody else."""
    with suppress(OSError):
        for link in folder.iterdir():
            with suppress(OSError):  # closed meanwhile, as the one is that lists this very folder
                yield os.readlink(link)  # noqa: PTH115 - no path, a name


def _inodes(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        path = _PROC / "net" / name
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            words = line.split()
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                yield words[9]


def _processes() -> Iterator[_Process]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:  # it has ended meanwhile
                continue
            words = text.rpartition(")")[2].split()  # a name may hold spaces and brackets
            # Fields 14 to 17 of proc(5): its own time, and that of children that ended.
            ticks = sum(map(int, words[11:15]))
            yield _Process(int(folder.name), int(words[1]), ticks * _TICK_MS, int(words[19]), int(words[21]) * _PAGE)
