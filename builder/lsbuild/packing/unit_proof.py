"""What systemd itself says of a unit: how exposed it is; the unit is judged off-line, nothing is loaded."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from lsbuild import toolbox
from lsbuild.api import Check

EXPOSURE = 30
"""Tenths: systemd-analyze calls 3.0 and less OK; an ordinary daemon has 9.6."""


def judged(unit: Path) -> Check:
    """The check ``unit``; without systemd on this machine it says that nobody was asked."""
    tool = toolbox.SYSTEMD_ANALYZE
    if fault := tool.fault():
        return Check.skipped("unit", fault)
    words = [tool.path(), "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    level = re.search(r"exposure level for \S+: ([\d.]+ \w+)", done.stdout)
    if level is None:
        return Check.skipped("unit", f"this systemd-analyze does not judge files: {done.stderr.strip()[-120:]}")
    return Check("unit", done.returncode == 0, f"exposure {level[1]} (at most {EXPOSURE / 10})")
