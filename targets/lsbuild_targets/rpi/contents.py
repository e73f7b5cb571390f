"""What the packages for a Raspberry Pi say of the board; what lies in them is the same for every device."""

from __future__ import annotations

from lsbuild.packing.device_package import UNITS, Device, fields, folder, installed, package_name, scripts
from lsbuild_targets.rpi.options import Options

__all__ = ["UNITS", "device", "fields", "folder", "installed", "package_name", "scripts"]


def device(options: Options) -> Device:
    """The board with the limits that the spec sets, or its own."""
    board = options.board
    return Device(
        title=board.title,
        python=options.python,
        memory=options.memory or board.memory,
        threads=options.threads or board.threads,
        version=options.version,
        maintainer=options.maintainer,
        updates=options.updates,
    )
