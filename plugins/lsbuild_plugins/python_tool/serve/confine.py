"""What a tool's process gives up before it loads the tool: rights, files, signals, processes, the network.

Every layer is the kernel's and for good: limits, a user and network namespace, Landlock, seccomp. A kernel or a container
that has one of them not leaves the others. It is loaded by ``child`` as a file and imports the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_NEW_USER, _NEW_NET, _THREAD = 0x10000000, 0x40000000, 0x00010000
_EPERM, _ENOSYS = 1, 38
_MOST_FILES = 64

# Numbers of system calls: those above 423 are the same on both machines.
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NUMBERS = {
    "x86_64": {
        "clone": 56, "kill": 62, "tgkill": 234, "socket": 41, "capset": 126,
        "refused": (
            57, 58, 59, 322,  # fork, vfork, execve, execveat
            101, 310, 311, 200, 129, 297,  # ptrace, process_vm_*, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo
            272, 308, 165, 166, 155, 161, 304,  # unshare, setns, mount, umount2, pivot_root, chroot, open_by_handle_at
            175, 313, 176, 246, 320, 169, 167, 168,  # modules, kexec, reboot, swap
            250, 248, 249, 321, 298, 323,  # keys, bpf, perf_event_open, userfaultfd
        ),
    },
    "aarch64": {
        "clone": 220, "kill": 129, "tgkill": 131, "socket": 198, "capset": 91,
        "refused": (
            221, 281, 117, 270, 271, 130, 138, 240, 97, 268, 40, 39, 41, 51, 265,
            105, 273, 106, 104, 294, 142, 224, 225, 219, 217, 218, 280, 241, 282,
        ),
    },
}  # fmt: skip
_REFUSED_ANYWHERE = (
    424,
    425,
    428,
    429,
    430,
    432,
    434,
    438,
    442,
)  # pidfd_*, io_uring_setup, open_tree ... mount_setattr
_CLONE3 = 435

# Landlock: what is handled from which version of its interface on (bits of struct landlock_ruleset_attr).
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute (a library is mapped so), read a file, list a folder
_ALL = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
_FILE_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
_SCOPED_SIGNALS_AND_SOCKETS = 3
_READABLE = (
    "/usr", "/lib", "/lib64", "/bin",
    "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/localtime", "/etc/timezone", "/etc/ld.so.cache", "/etc/mime.types",
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/passwd", "/etc/group",
    "/dev/urandom", "/dev/random", "/dev/zero", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
)  # fmt: skip


def confine(*, memory: int, file: int, network: bool, read: Sequence[str], write: Sequence[str]) -> list[str]:
    """Give up all that a tool does not need; the names of the layers that hold. Has to run before any thread is started.

    ``memory`` and ``file`` are bytes; ``read`` are further paths to be read, ``write`` folders to be written in.
    """
    _limits(memory, file)
    layers = ["limits"]
    namespace = [] if network else [("namespace", _own_network)]
    steps: list[tuple[str, Callable[[], None]]] = [
        *namespace,
        ("capabilities", _no_capabilities),
        ("landlock", lambda: _landlock(read, write)),
        ("seccomp", lambda: _seccomp(network)),
    ]
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for name, step in steps:
        try:
            step()
        except OSError:
            continue
        layers.append(name)
    if "seccomp" not in layers:
        _lower(resource.RLIMIT_NPROC, 0)  # threads too, and not for root: better than nothing
    if not network and not {"namespace", "seccomp"} & set(layers):
        sys.addaudithook(_no_sockets)
        layers.append("audit")
    return layers


def _limits(memory: int, file: int) -> None:
    _lower(resource.RLIMIT_AS, memory)
    _lower(resource.RLIMIT_FSIZE, file)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _MOST_FILES)


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (limit, limit))


def _no_sockets(event: str, _arguments: object) -> None:
    if event in (
        "socket.connect",
        "socket.bind",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.__new__",
    ):
        raise PermissionError("this tool has no network")


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _own_network() -> None:
    """A network namespace of its own, in which not even loopback is up; it takes a user namespace to make one."""
    user, group = os.getuid(), os.getgid()
    _checked(_LIBC.unshare(_NEW_USER | _NEW_NET))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _no_capabilities() -> None:
    number = _NUMBERS[platform.machine()]["capset"] if platform.machine() in _NUMBERS else None
    if number is None:
        raise OSError(_ENOSYS, "unknown machine")
    header, data = struct.pack("II", 0x20080522, 0), bytes(24)
    _checked(_LIBC.syscall(number, header, data))


def _landlock(read: Sequence[str], write: Sequence[str]) -> None:
    """Only what every program needs, Python, the tool and ``read`` can be read, and only ``write`` written."""
    version = _checked(_LIBC.syscall(444, None, 0, 1))
    handled = 0
    for since, bits in _ALL:
        handled |= bits if version >= since else 0
    attributes = struct.pack("QQQ", handled, 0, _SCOPED_SIGNALS_AND_SOCKETS if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _checked(_LIBC.syscall(444, attributes, size, 0))
    try:
        python = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent)}
        for path in (*_READABLE, *python, *read):
            _allow(ruleset, path, _READ)
        _allow(ruleset, "/dev/null", _READ | 1 << 1)
        for path in write:
            _allow(ruleset, path, handled)
        _checked(_LIBC.syscall(446, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not on this machine
    try:
        folder = Path(path).is_dir()
        _checked(
            _LIBC.syscall(445, ruleset, 1, struct.pack("=Qi", access if folder else access & _FILE_ONLY, place), 0)
        )
    finally:
        os.close(place)


def _seccomp(network: bool) -> None:
    """No new process or program, no signal to another, no namespace, mount or module; sockets as ``network`` says."""
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(_ENOSYS, "unknown machine")
    numbers = _NUMBERS[machine]
    program = [
        _load(4), _jump(0x15, _MACHINES[machine], 1, 0), _answer(_EPERM), _load(0),
        _jump(0x35, 0x40000000, 0, 1), _answer(_ENOSYS),  # the x32 numbers of the same calls
        _jump(0x15, _CLONE3, 0, 1), _answer(_ENOSYS),  # its flags cannot be looked at; libc then takes clone
        *_only(numbers["clone"], 16, 0x45, (_THREAD,)),
        *_only(numbers["kill"], 16, 0x15, (os.getpid(),)),
        *_only(numbers["tgkill"], 16, 0x15, (os.getpid(),)),
        *_only(numbers["socket"], 16, 0x15, (2, 10) if network else ()),
    ]  # fmt: skip
    refused = numbers["refused"]
    for number in (*(refused if isinstance(refused, tuple) else ()), *_REFUSED_ANYWHERE):
        program += [_jump(0x15, number, 0, 1), _answer(_EPERM)]
    program.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
    code = b"".join(program)
    held = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(held))
    _checked(_LIBC.prctl(_PR_SET_SECCOMP, _FILTER, filter_, 0, 0))


def _load(offset: int) -> bytes:
    """Load a word of struct seccomp_data: 0 the number, 4 the machine, 16 the low half of the first argument."""
    return struct.pack("HBBI", 0x20, 0, 0, offset)


def _jump(test: int, value: int, yes: int, no: int) -> bytes:
    """0x15 equal, 0x35 at least, 0x45 a bit in common: how many instructions are passed over."""
    return struct.pack("HBBI", test, yes, no, value & 0xFFFFFFFF)


def _answer(error: int) -> bytes:
    return struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | error)


def _only(number: object, offset: int, test: int, values: Sequence[int]) -> list[bytes]:
    """Refuse call ``number`` unless its first argument passes ``test`` with one of ``values``."""
    if not isinstance(number, int):
        raise OSError(_ENOSYS, "unknown call")
    tests: list[bytes] = []
    for place, value in enumerate(values):
        tests.append(_jump(test, value, len(values) - place, 0))
    body = [_load(offset), *tests, _answer(_EPERM), _load(0)]
    return [_jump(0x15, number, 0, len(body)), *body]
