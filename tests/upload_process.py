"""A process of its own for tests that kill one: uploads files and says which were acknowledged, until it is killed.

python upload_process.py FOLDER closed|open COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path

from lsbuild_runtime.uploads import worker
from uploading import attached, created, opened, uploaded

KILLS = 5


def main(folder: Path, gate: str, count: int) -> None:
    """Print the store's id, then each file's as soon as the server acknowledged that it is queued; then wait."""
    worker.MOST_TRIES = KILLS + 1  # on a slow machine each process is killed at the same file
    with opened(folder) as app:
        encoder = app.services.get("embeddings", "letters")
        if gate == "closed":
            encoder.gate.clear()
        store = created(app)
        sys.stdout.write(f"{store}\n")
        for place in range(count):
            file = uploaded(app, f"{place}.txt", f"thing number {place}\n\n" * 40)
            attached(app, store, file)
            sys.stdout.write(f"{file}\n")
            sys.stdout.flush()
        if gate == "closed":
            encoder.waiting.wait(20)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
