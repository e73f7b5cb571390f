"""Starts the server of the slot that ``current`` names, or what was installed; run by the unit, as the unit's own user.

    python -I -S -B -X utf8 start.py FACTORY UPDATES [OPTIONS OF THE SERVER]

It decides nothing: which slot it is was written down by ``begin`` just before. Two imports, because every start pays them.
"""

from __future__ import annotations

import os
import sys


def chosen(factory: str, updates: str) -> str:
    """The folder to serve; ``factory`` unless the link leads to a slot that is there."""
    try:
        name = os.readlink(f"{updates}/current")  # noqa: PTH115 - pathlib would be a third of the start
    except OSError:
        return factory
    root = f"{updates}/{name}"
    return root if name in ("slots/a", "slots/b") and os.path.isfile(f"{root}/manifest.json") else factory  # noqa: PTH113


def main(arguments: list[str]) -> int:
    """Serve; returns the exit code of the server."""
    factory, updates, *rest = arguments
    root = chosen(factory, updates)
    sys.path[:0] = [f"{root}/app", f"{root}/site"]
    from lsbuild_runtime.serve.main import main as serve

    return serve(["--root", root, *rest])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
