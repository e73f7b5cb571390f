"""The first sector of a card: a table of a FAT and a Linux partition in the form of an MBR, written and read; pure."""

from __future__ import annotations

import struct

from lsbuild.errors import VerifyError

SECTOR = 512
_FAT32, _LINUX = 0x0C, 0x83
_ENTRY = "<B3sB3sII"
_BEYOND = b"\xfe\xff\xff"
"""Cylinder, head and sector of an entry; nobody reads them since cards have more than 8 GB."""


def table(identity: bytes, boot: tuple[int, int], root: tuple[int, int]) -> bytes:
    """The sector for two partitions, each (first sector, sectors); ``identity`` has 4 bytes, PARTUUID begins with them."""
    entries = (
        struct.pack(_ENTRY, 0x80, _BEYOND, _FAT32, _BEYOND, *boot),
        struct.pack(_ENTRY, 0, _BEYOND, _LINUX, _BEYOND, *root),
    )
    return bytes(440) + identity + bytes(2) + b"".join(entries) + bytes(32) + b"\x55\xaa"


def partitions(sector: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first sector, sectors) of the FAT and of the Linux partition. Raises VerifyError when it does not name these two."""
    if len(sector) < SECTOR or sector[510:512] != b"\x55\xaa":
        raise VerifyError("there is no table of partitions")
    boot, root = (struct.unpack_from("<4xB3xII", sector, 446 + 16 * number) for number in range(2))
    if (boot[0], root[0]) != (_FAT32, _LINUX):
        raise VerifyError("its two partitions are not a FAT one to boot from and one of Linux")
    return (boot[1], boot[2]), (root[1], root[2])


def partition_id(identity: bytes, number: int) -> str:
    """PARTUUID of a partition, as the kernel makes it of such a table."""
    return f"{identity[3::-1].hex()}-{number:02x}"
