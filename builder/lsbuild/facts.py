"""What the planner may not look up itself: hashes of source code and versions of tools, read once before planning."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lsbuild.api import Step
from lsbuild.errors import StepError


@dataclass(frozen=True, slots=True)
class Facts:
    """``code``: package or module -> sha256 of its source. ``tools``: distribution -> version ("" when not installed)."""

    code: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)


def gather(steps: Iterable[Step]) -> Facts:
    """The facts that the keys of ``steps`` need; StepError when a step's code cannot be found."""
    steps = tuple(steps)
    return Facts(
        code={name: code_hash(name) for name in sorted({name for step in steps for name in code_of(step)})},
        tools={name: version_of(name) for name in sorted({name for step in steps for name in step.tools})},
    )


def code_of(step: Step) -> tuple[str, ...]:
    """The packages and modules whose source makes the step what it is.

    Without ``Step.code`` that is the plugin: the nearest package above ``run`` that holds a ``plugin`` module, else the
    package that holds ``run``.
    """
    return step.code or (home(step.run.partition(":")[0]),)


def home(module: str) -> str:
    """The package that a change anywhere inside must make ``module``'s steps run again."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        package = ".".join(parts[:end])
        place = _origin(package)
        if place.name == "__init__.py" and (place.parent / "plugin.py").is_file():
            return package
    return module if _origin(module).name == "__init__.py" or len(parts) == 1 else ".".join(parts[:-1])


def code_hash(name: str) -> str:
    """sha256 over the names and bytes of every source file of a package (recursively), or of one module."""
    place = _origin(name)
    files = [place]
    if place.name == "__init__.py":
        files = [path for path in sorted(place.parent.rglob("*")) if path.is_file() and _counts(path)]
    digest = hashlib.sha256()
    for path in files:
        data = path.read_bytes()
        digest.update(f"{path.relative_to(place.parent).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _counts(path: Path) -> bool:
    return path.suffix not in {".pyc", ".pyo", ".so"} and "__pycache__" not in path.parts


def _origin(name: str) -> Path:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise StepError(f"the code of a step is not importable: {error}", where=name) from error
    if spec is None or spec.origin is None:
        raise StepError(
            "the code of a step is not a Python module or has no __init__.py",
            where=name,
            hint="Correct the step's run or code, or give its folder an __init__.py.",
        )
    return Path(spec.origin)


def version_of(name: str) -> str:
    """The version of an installed distribution, "" when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
