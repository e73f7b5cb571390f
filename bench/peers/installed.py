"""What an environment needs on disk for some distributions and all they require: ``installed NAME...`` prints bytes as JSON."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def closure(names: list[str]) -> set[str]:
    """``names`` and everything they require here, without extras; what is not installed does not count."""
    done: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in done:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        done.add(name)
        waiting += [re.split(r"[ ;<>=!~\[(]", each, maxsplit=1)[0] for each in requires if "extra ==" not in each]
    return done


def size(name: str) -> int:
    """Bytes of the files of one distribution, compiled bytecode left out."""
    files = [Path(str(file.locate())) for file in distribution(name).files or ()]
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc" and path.is_file())


if __name__ == "__main__":
    print(json.dumps({name: size(name) for name in sorted(closure(sys.argv[1:]))}))
