"""A process of its own for tests that kill one: answers the batches of a state folder until it is killed.

python batch_process.py FOLDER PACE
"""

from __future__ import annotations

import sys
from pathlib import Path

from batching import served


def main(folder: Path, pace: float) -> None:
    """Serve until the end of the input."""
    with served(folder, pace) as app:
        app.start()
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
