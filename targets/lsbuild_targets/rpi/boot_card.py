"""Boots the image of a card by its own kernel, in a machine of QEMU, with settings on its boot partition as a user writes them.

Kernel, first root and command line are read from the image's own boot partition; the machine is QEMU's ``virt``, because
QEMU has no firmware of a Raspberry Pi.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lsbuild import toolbox
from lsbuild.api import Check, LsbuildError, VerifyError
from lsbuild.delivery import card_settings, flash
from lsbuild.packing.boot import Running, boot_and_ask
from lsbuild_targets.rpi import disk
from lsbuild_targets.rpi.options import Board

Ask = Callable[[str], Iterable[Check]]
SECONDS = 900.0
_GROWN = 256 << 20
"""Bytes by which the card is larger than the image: the root file system has to take them."""
_NAME = "proof-of-boot"
_SECRET = "left-on-no-card"  # noqa: S105 - it has to be gone in the end
_SETTINGS = f"""\
hostname={_NAME}
timezone=Europe/Nowhere
gateway=not-an-address
env.LSBUILD_HOST=0.0.0.0
env.PROOF={_SECRET}
"""
"""Two of them are wrong: the board has to say so and to go on."""
_TOLD = ("there is no time zone 'Europe/Nowhere'", "'not-an-address' is no address")
TOOLS = (toolbox.QEMU_SYSTEM, toolbox.MCOPY, toolbox.DEBUGFS, toolbox.FSCK_FAT, toolbox.ZSTD)
_OWN = ("vmlinuz", "initrd.gz", "cmdline.txt")


def unpack(image: Path, card: Path, unit: str, folder: Path) -> None:
    """Write the uncompressed image to ``card``, and bundle and unit of the image below ``folder``. Raises VerifyError."""
    with flash.opened(image) as source, card.open("xb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    root = disk.part(card, 2, card.with_name("packed-root"))
    for place in ("usr/lib", "usr/lib/systemd/system"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    _debugfs(root, f"rdump /usr/lib/{unit} {folder}/usr/lib")
    _debugfs(root, f"dump /usr/lib/systemd/system/{unit}.service {folder}/usr/lib/systemd/system/{unit}.service")
    root.unlink()


def missing() -> str:
    """What this machine lacks to boot an image, and how to get it; "" when nothing."""
    return "; ".join(fault for tool in TOOLS if (fault := tool.fault()))


def boot(image: Path, board: Board, port: int, scratch: Path, ask: Ask) -> Iterator[Check]:
    """Boot the uncompressed ``image``, ask, cut the power, and look at what the first boot left on it."""
    try:
        yield from _as_written(image, scratch)
        card = _card(image, scratch)
        before = _blocks(disk.part(card, 2, scratch / "root.before"))
        with _machine(card, board, port, scratch) as started:
            for check in boot_and_ask(started, SECONDS, ask):
                if check.name == "boot" and check.ok:
                    how = f"by the kernel and systemd of the image (QEMU's machine virt as {board.qemu})"
                    yield Check("card: boot", True, f"{check.detail}, {_used(started.pid):.0f} s of a processor, {how}")
                elif check.name != "stop":  # its power is cut
                    yield replace(check, name=f"card: {check.name}")
            said = started.output
        yield Check(
            "card: bad settings", all(each in said for each in _TOLD), "told on the console, and the board went on"
        )
        yield from _left_behind(card, before, scratch)
    except LsbuildError as error:
        yield Check("card", False, str(error))


def _used(pid: int) -> float:
    """Seconds of processor time that a process used so far: unlike the clock's, they do not depend on what else runs here."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _as_written(image: Path, scratch: Path) -> Iterator[Check]:
    """What the file systems' own tools say of the image before it ever ran; and that two boards will not share a key."""
    boot, root = disk.part(image, 1, scratch / "boot.part"), disk.part(image, 2, scratch / "root.part")
    _tool("fsck.fat", "-n", str(boot))
    _tool("e2fsck", "-fn", str(root))
    shared = [
        path
        for path in ("/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key")
        if "Type: regular" in _debugfs(root, f"stat {path}")
    ]
    identity = _debugfs(root, "cat /etc/machine-id").strip()
    whole = not shared and not identity
    yield Check("card: as written", whole, "both file systems are clean; no host key and no machine id is inside")
    boot.unlink()
    root.unlink()


def _card(image: Path, scratch: Path) -> Path:
    """The image on a larger card, with settings on its boot partition; what boots it lies beside it."""
    card = scratch / "card.img"
    image.rename(card)
    os.truncate(card, card.stat().st_size + _GROWN)
    settings = scratch / card_settings.FILE
    settings.write_text(_SETTINGS)
    part = f"{card}@@{disk.BOOT_OFFSET}"
    _tool("mcopy", "-o", "-i", part, str(settings), f"::{card_settings.FILE}")
    for name in _OWN:
        _tool("mcopy", "-o", "-i", part, f"::{name}", str(scratch / name))
    return card


@contextmanager
def _machine(card: Path, board: Board, port: int, scratch: Path) -> Iterator[Running]:
    outside = _free_port()
    line = f"{(scratch / 'cmdline.txt').read_text().strip()} console=ttyAMA0"
    words = [
        toolbox.QEMU_SYSTEM.path(),
        *("-machine", "virt", "-cpu", board.qemu, "-smp", "2", "-m", "1024", "-accel", "tcg,thread=multi"),
        *("-nographic", "-no-reboot"),
        *("-kernel", str(scratch / "vmlinuz"), "-initrd", str(scratch / "initrd.gz"), "-append", line),
        *("-drive", f"file={card},if=none,format=raw,id=card", "-device", "virtio-blk-pci,drive=card,romfile="),
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{outside}-:{port}"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
    ]
    process = subprocess.Popen(  # noqa: S603 - QEMU with the image
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    started = Running(process, f"http://127.0.0.1:{outside}")
    try:
        yield started
    finally:
        started.stop()


def _left_behind(card: Path, before: int, scratch: Path) -> Iterator[Check]:
    """What the first boot did, read from the card after its power was cut: the journal of ext4 is replayed first."""
    root = disk.part(card, 2, scratch / "root.after")
    fixed = subprocess.run(  # noqa: S603
        [toolbox.on_path("e2fsck"), "-fp", str(root)], capture_output=True, text=True, check=False
    )
    yield Check("card: file system", fixed.returncode < 4, "whole after its power was cut")
    after = _blocks(root)
    yield Check("card: root grown", after > before, f"{before:,} to {after:,} blocks of 4 KiB")
    name = _debugfs(root, "cat /etc/hostname").strip()
    yield Check("card: settings", name == _NAME, f"the board calls itself {name!r}")
    identity, key = _debugfs(root, "cat /etc/machine-id").strip(), _debugfs(root, "cat /etc/ssh/ssh_host_ed25519_key")
    made = bool(re.fullmatch("[0-9a-f]{32}", identity)) and "OPENSSH PRIVATE KEY" in key
    yield Check("card: identity", made, "machine id and host key were made at its first boot")
    rest = _tool("mtype", "-i", f"{card}@@{disk.BOOT_OFFSET}", f"::{card_settings.FILE}")
    gone = _SECRET.encode() not in disk.part(card, 1, scratch / "boot.after").read_bytes()  # nor in what is free there
    yield Check("card: secrets", gone and "# env.PROOF was taken over" in rest, "taken off the boot partition")


def _blocks(root: Path) -> int:
    match = re.search(r"^Block count:\s+(\d+)", _debugfs(root, "stats -h"), re.MULTILINE)
    if match is None:
        raise VerifyError("the second partition holds no ext4 file system", where=str(root))
    return int(match[1])


def _debugfs(root: Path, command: str) -> str:
    return _tool("debugfs", "-R", command, str(root))


def _tool(name: str, *words: str) -> str:
    env = {"PATH": os.defpath, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    tool = toolbox.on_path(name) or name
    done = subprocess.run([tool, *words], env=env, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode:
        raise VerifyError(f"{name} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
