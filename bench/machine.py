"""What the figures were measured on and how busy it was with other things; it only reads /proc."""

from __future__ import annotations

import os
import platform
import re
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BUSY_LOAD = 1.5
"""A one-minute load average above which a figure says that the machine was noisy."""
BUSY_CPUS = 0.3
"""CPUs used by others above which it says so too."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine at one moment. ``load`` is the one-minute average."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    load: float

    def to_json(self) -> dict[str, Any]:
        """The ``machine`` entry of latest.json."""
        return asdict(self)


def describe() -> Machine:
    """This machine, now."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        system=f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        python=platform.python_version(),
        load=os.getloadavg()[0],
    )


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    model = found[1].strip() if found else platform.machine()
    fast = [flag for flag in ("avx512_vnni", "amx_int8", "asimddp", "i8mm") if re.search(rf"\b{flag}\b", text)]
    return f"{model} ({', '.join(fast)})" if fast else model


def read_bandwidth(size: int = 400_000_000) -> float:
    """GB (10^9 bytes) that one thread streams from memory in a CPU second: libc's memchr over bytes that hold no match."""
    data = b"\1" * size
    start = time.process_time()
    for _ in range(3):
        data.find(b"\2")
    return 3 * size / 1e9 / (time.process_time() - start)


class Noise:
    """How busy others kept the machine between making this and ``report``.

    The work of this process and of its finished children is ours and does not count: end workers first.
    """

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._wall, self._all, self._own = time.monotonic(), busy_seconds(), own_seconds()

    def report(self) -> str:
        """One phrase for ``Figure.conditions``."""
        wall = max(time.monotonic() - self._wall, 1e-3)
        others = max(0.0, (busy_seconds() - self._all - (own_seconds() - self._own)) / wall)
        return phrase(self._load, others, len(os.sched_getaffinity(0)))


def phrase(load: float, others: float, cores: int) -> str:
    """``load`` before the group started, CPUs that ``others`` used during it."""
    text = f"load {load:.1f} before, others used {others:.1f} of {cores} CPUs"
    return f"NOISY: {text}" if load > BUSY_LOAD or others > BUSY_CPUS else text


def busy_seconds(stat: Path = Path("/proc/stat")) -> float:
    """CPU seconds that all processes together have used since boot (without idle, iowait and guest time)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    spent = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in spent)
