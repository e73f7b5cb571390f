"""What the ingestion group measures with: the memory of a tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.tree import ChildrenPeak, descendants

_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'data = bytearray(60_000_000); input()'])"


def test_the_memory_of_grandchildren_counts() -> None:
    with ChildrenPeak() as peak, subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE) as process:
        while peak.mb < 60:
            time.sleep(0.01)
        below = descendants(os.getpid())
        assert process.stdin is not None
        process.stdin.close()
    assert process.pid in below
    assert len(below) >= 2
    assert process.pid not in descendants(os.getpid())
