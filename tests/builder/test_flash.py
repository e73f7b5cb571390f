"""Writing images: what is refused before a byte is written, and what is read back; devices are folders that look like sysfs."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lsbuild.delivery import flash as flashing
from lsbuild.delivery.flash import Machine, check_device, described, flash
from lsbuild.errors import TargetError, VerifyError

IMAGE = (bytes(510) + b"\x55\xaa") + bytes(range(256)) * 2000
GB = 1_000_000_000


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "small.img"
    path.write_bytes(IMAGE)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_an_image_is_unpacked_written_and_read_back(image: Path, tmp_path: Path, suffix: str) -> None:
    packed = tmp_path / f"packed.img{suffix}"
    if suffix == ".zst":
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        subprocess.run(["zstd", "-q", image, "-o", packed], check=True)
    else:
        write: Callable[[bytes], bytes] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
        packed.write_bytes(write(IMAGE))
    told: list[tuple[str, int, int]] = []
    found = flash(packed, tmp_path / "card", yes=False, progress=lambda *each: told.append(each))
    assert (tmp_path / "card").read_bytes() == IMAGE
    assert found.size == len(IMAGE)
    assert found.sha256 == hashlib.sha256(IMAGE).hexdigest()
    assert told == [("writing", len(IMAGE), len(IMAGE)), ("reading back", len(IMAGE), len(IMAGE))]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_truncated_image_is_refused_before_a_byte_is_written(image: Path, tmp_path: Path, suffix: str) -> None:
    packed = tmp_path / f"packed.img{suffix}"
    if suffix == ".zst":
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        subprocess.run(["zstd", "-q", image, "-o", packed], check=True)
    else:
        packed.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}[suffix](IMAGE))
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(VerifyError, match="is damaged"):
        flash(packed, tmp_path / "card", yes=False, progress=silent)
    assert not (tmp_path / "card").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", IMAGE, "is no image of a disk"),
        ("a.img", bytes(4096), "has no partition table"),
        ("a.img", IMAGE + b"x", "no number of whole sectors"),
        ("a.img", b"", "no number of whole sectors"),
        ("a.img.gz", b"not gzip", "is damaged"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VerifyError, match=message):
        flash(tmp_path / name, tmp_path / "card", yes=True, progress=silent)
    assert not (tmp_path / "card").exists()


def test_a_file_that_exists_needs_a_yes(image: Path, tmp_path: Path) -> None:
    card = tmp_path / "card"
    card.write_bytes(b"mine" * 1_000_000)
    with pytest.raises(TargetError, match="exists") as refused:
        flash(image, card, yes=False, progress=silent)
    assert "--yes" in refused.value.hint
    flash(image, card, yes=True, progress=silent)
    assert card.read_bytes() == IMAGE


def test_folders_pipes_and_devices_that_are_not_there_are_refused(image: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="is a folder"):
        flash(image, tmp_path, yes=True, progress=silent)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TargetError, match="neither a file nor a block device"):
        flash(image, tmp_path / "pipe", yes=True, progress=silent)
    with pytest.raises(TargetError, match="there is no such device"):
        flash(image, Path("/dev/no-such-card"), yes=True, progress=silent)
    with pytest.raises(VerifyError, match="no such image"):
        flash(tmp_path / "gone.img", tmp_path / "card", yes=True, progress=silent)


def test_other_bytes_on_the_card_are_told(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(out: io.FileIO, written: flashing.Flashed, progress: flashing.Progress) -> None:
        os.pwrite(out.fileno(), b"\xff", 100_000)
        compare(out, written, progress)

    compare = flashing._compare
    monkeypatch.setattr(flashing, "_compare", spoil)
    with pytest.raises(VerifyError, match="what is read back is not what was written"):
        flash(image, tmp_path / "card", yes=False, progress=silent)


class Fake:
    """A machine with one disk ``sdb`` that has partitions ``sdb1`` and ``sdb2``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(root / "sys", root / "proc")
        disk = root / "sys/devices/pci/ata1/block/sdb"
        for name, number in (("", "8:16"), ("sdb1", "8:17"), ("sdb2", "8:18")):
            folder = disk / name
            (folder / "holders").mkdir(parents=True)
            (folder / "size").write_text(f"{GB // 512}\n")
            (folder / "ro").write_text("0\n")
            if name:
                (folder / "partition").write_text("1\n")
            self.link(folder, number)
        (disk / "removable").write_text("1\n")
        self.disk = disk
        (root / "proc/self").mkdir(parents=True)
        self.mounts("")
        (root / "proc/swaps").write_text("Filename Type Size Used Priority\n")

    def link(self, folder: Path, number: str) -> None:
        for place in (self.root / "sys/class/block" / folder.name, self.root / "sys/dev/block" / number):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(folder)

    def mounts(self, text: str) -> None:
        (self.root / "proc/self/mountinfo").write_text(text)

    def check(self, size: int = 1000, *, yes: bool = False, name: str = "sdb") -> None:
        check_device(described(Path("/dev") / name, name, self.machine), size, yes=yes, machine=self.machine)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path / "fake")


def mounted(number: str, place: str, source: str = "none") -> str:
    return f"25 30 {number} / {place} rw,relatime shared:1 - ext4 {source} rw\n"


def test_a_card_that_nobody_uses_may_be_written(fake: Fake) -> None:
    fake.check()


@pytest.mark.parametrize("place", ["/", "/boot", "/boot/firmware", "/usr"])
def test_a_disk_of_the_system_is_refused_whatever_is_said(fake: Fake, place: str) -> None:
    fake.mounts(mounted("8:18", place))
    with pytest.raises(TargetError, match="is a disk of this very system"):
        fake.check(yes=True)


def test_a_mounted_partition_is_named_with_its_place(fake: Fake) -> None:
    fake.mounts(mounted("8:17", "/media/my\\040card"))
    with pytest.raises(TargetError, match="sdb1 is mounted at /media/my card"):
        fake.check(yes=True)


def test_a_mount_that_only_names_its_device_counts(fake: Fake) -> None:
    fake.mounts(mounted("0:40", "/data", "/dev/sdb2"))
    with pytest.raises(TargetError, match="sdb2 is mounted at /data"):
        fake.check(yes=True)


def test_swap_is_the_system(fake: Fake) -> None:
    (fake.root / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/sdb2 partition 1 0 -2\n")
    with pytest.raises(TargetError, match=r"this very system .swap."):
        fake.check(yes=True)


def test_a_volume_upon_a_partition_counts(fake: Fake) -> None:
    volume = fake.root / "sys/devices/virtual/block/dm-0"
    (volume / "holders").mkdir(parents=True)
    fake.link(volume, "253:0")
    (fake.disk / "sdb2/holders/dm-0").mkdir()
    fake.mounts(mounted("253:0", "/"))
    with pytest.raises(TargetError, match="this very system"):
        fake.check(yes=True)


def test_a_read_only_card_is_refused(fake: Fake) -> None:
    (fake.disk / "ro").write_text("1\n")
    with pytest.raises(TargetError, match="is read-only"):
        fake.check(yes=True)


def test_a_card_that_is_too_small_is_refused_with_both_numbers(fake: Fake) -> None:
    with pytest.raises(TargetError, match=r"has 1,000,000,000 bytes|has 999,999,\d+ bytes") as refused:
        fake.check(2 * GB, yes=True)
    assert "2,000,000,000" in refused.value.what


def test_a_disk_that_is_not_removable_needs_a_yes(fake: Fake) -> None:
    (fake.disk / "removable").write_text("0\n")
    with pytest.raises(TargetError, match="is not removable") as refused:
        fake.check()
    assert "--yes" in refused.value.hint
    fake.check(yes=True)


def test_a_card_in_a_built_in_reader_counts_as_removable(fake: Fake) -> None:
    (fake.disk / "removable").write_text("0\n")
    (fake.disk / "device").mkdir()
    (fake.disk / "device/type").write_text("SD\n")
    fake.check()


def test_the_disk_below_this_machine_is_refused(image: Path) -> None:
    """The real thing: whatever this machine's root lies on, if that is a block device at all."""
    number = Path("/").stat().st_dev
    place = Path("/sys/dev/block") / f"{os.major(number)}:{os.minor(number)}"
    if not place.exists() or not (Path("/dev") / place.resolve().name).is_block_device():
        pytest.skip("the root of this machine lies on no block device that can be named")
    with pytest.raises(TargetError, match="this very system"):
        flash(image, Path("/dev") / place.resolve().name, yes=True, progress=silent)
