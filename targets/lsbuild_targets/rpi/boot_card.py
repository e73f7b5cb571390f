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
from pathlib import Path

from lsbuild.api import Check, LsbuildError, VerifyError
from lsbuild.delivery import flash
from lsbuild.packing.boot import Running, boot_and_ask
from lsbuild_targets.rpi import disk
from lsbuild_targets.rpi.options import Board

Ask = Callable[[str], Iterable[Check]]
_SECONDS = 600.0
_GROWN = 256 << 20
"""Bytes by which the card is larger than the image: the root file system has to take them."""
_NAME = "proof-of-boot"
_SETTINGS = f"hostname={_NAME}\nenv.LSBUILD_HOST=0.0.0.0\nwifi_password=secret\n"
_TOOLS = {"qemu-system-aarch64": "qemu-system-arm", "mcopy": "mtools", "debugfs": "e2fsprogs", "zstd": "zstd"}
_OWN = ("vmlinuz", "initrd.gz", "cmdline.txt")


def unpack(image: Path, card: Path, unit: str, folder: Path) -> None:
    """Write the uncompressed image to ``card``, and bundle and unit of the image below ``folder``. Raises VerifyError."""
    with flash.opened(image) as source, card.open("xb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    root = f"{card}?offset={disk.ROOT_OFFSET}"
    for place in ("usr/lib", "usr/lib/systemd/system"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    _debugfs(root, f"rdump /usr/lib/{unit} {folder}/usr/lib")
    _debugfs(root, f"dump /usr/lib/systemd/system/{unit}.service {folder}/usr/lib/systemd/system/{unit}.service")


def boot(image: Path, board: Board, port: int, scratch: Path, ask: Ask) -> Iterator[Check]:
    """Boot the uncompressed ``image``, ask, cut the power, and look at what the first boot left on it."""
    missing = {tool: package for tool, package in _TOOLS.items() if disk.tool_path(tool) is None}
    if missing:
        hint = f"{', '.join(missing)} is not here: apt-get install {' '.join(missing.values())}"
        yield Check("card (skipped)", True, f"the image was NOT booted: {hint}")
        return
    try:
        card = _card(image, scratch)
        before = _blocks(card)
        with _machine(card, board, port, scratch) as started:
            for check in boot_and_ask(started, _SECONDS, ask):
                if check.name != "stop":
                    yield Check(f"card: {check.name}", check.ok, _how(check, board))
        yield from _left_behind(card, before)
    except LsbuildError as error:
        yield Check("card", False, str(error))


def _how(check: Check, board: Board) -> str:
    if check.name != "boot":
        return check.detail
    return f"{check.detail}, by the kernel and systemd of the image (QEMU's machine virt as {board.qemu})"


def _card(image: Path, scratch: Path) -> Path:
    """The image on a larger card, with settings on its boot partition; what boots it lies beside it."""
    card = scratch / "card.img"
    image.rename(card)
    os.truncate(card, card.stat().st_size + _GROWN)
    settings = scratch / "lsbuild.txt"
    settings.write_text(_SETTINGS)
    part = f"{card}@@{disk.BOOT_OFFSET}"
    _tool("mcopy", "-o", "-i", part, str(settings), "::lsbuild.txt")
    for name in _OWN:
        _tool("mcopy", "-o", "-i", part, f"::{name}", str(scratch / name))
    return card


@contextmanager
def _machine(card: Path, board: Board, port: int, scratch: Path) -> Iterator[Running]:
    outside = _free_port()
    line = (scratch / "cmdline.txt").read_text().strip().replace(" quiet", "")
    words = [
        disk.tool_path("qemu-system-aarch64") or "",
        *("-M", "virt", "-cpu", board.qemu, "-smp", "4", "-m", "1024", "-nographic", "-no-reboot"),
        *("-kernel", str(scratch / "vmlinuz"), "-initrd", str(scratch / "initrd.gz")),
        *("-append", line.replace("console=tty1", "console=ttyAMA0")),
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


def _left_behind(card: Path, before: int) -> Iterator[Check]:
    """What the first boot did, read from the card after its power was cut: the journal of ext4 is replayed first."""
    root = f"{card}?offset={disk.ROOT_OFFSET}"
    fixed = subprocess.run(  # noqa: S603
        [disk.tool_path("e2fsck") or "", "-fp", root], capture_output=True, text=True, check=False
    )
    yield Check("card: file system", fixed.returncode < 4, "whole after its power was cut")
    after = _blocks(card)
    yield Check("card: root grown", after > before, f"{before:,} to {after:,} blocks of 4 KiB")
    name = _debugfs(root, "cat /etc/hostname").strip()
    yield Check("card: settings", name == _NAME, f"the board calls itself {name!r}")
    rest = _tool("mtype", "-i", f"{card}@@{disk.BOOT_OFFSET}", "::lsbuild.txt")
    yield Check("card: secrets", "secret" not in rest, "taken off the boot partition")


def _blocks(card: Path) -> int:
    match = re.search(r"^Block count:\s+(\d+)", _debugfs(f"{card}?offset={disk.ROOT_OFFSET}", "stats -h"), re.MULTILINE)
    if match is None:
        raise VerifyError("the second partition holds no ext4 file system", where=str(card))
    return int(match[1])


def _debugfs(root: str, command: str) -> str:
    return _tool("debugfs", "-R", command, root)


def _tool(name: str, *words: str) -> str:
    env = {"PATH": os.defpath, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    tool = disk.tool_path(name) or name
    done = subprocess.run([tool, *words], env=env, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode:
        raise VerifyError(f"{name} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
