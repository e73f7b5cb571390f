"""Holds the budgets of a spec: bundles before anything is written, what is sent as soon as it is packed.

What only a running artifact shows (``cold_start``) travels in its manifest, and ``verify`` holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsbuild.api import Artifact, Bundle, Json, Target
from lsbuild.errors import GateError
from lsbuild.inspection import components
from lsbuild.packing.place import set_aside
from lsbuild.spec.model import Budgets

RUNNING = "budgets"
"""Of ``Manifest.build``: the limits that only a running artifact can be held against."""
COLD_START = "cold_start_ms"


def check(budgets: Budgets, bundles: tuple[Bundle, ...]) -> None:
    """Raise GateError with the numbers and the three largest files when a bundle exceeds a budget (bytes, unpacked)."""
    for bundle in bundles:
        entries = bundle.manifest.files
        sizes = {
            "artifact": sum(entry.size for entry in entries),
            "part_model": sum(entry.size for entry in entries if entry.part == "model"),
        }
        for name, size in sizes.items():
            limit = getattr(budgets, name)
            if limit is not None and size > limit:
                largest = sorted(entries, key=lambda entry: -entry.size)[:3]
                listed = ", ".join(f"{entry.path} {entry.size / 1e6:.1f} MB" for entry in largest)
                raise GateError(
                    f"{bundle.platform.tag} is {size / 1e6:.1f} MB, the budget is {limit / 1e6:.1f} MB",
                    where=f"budgets.{name}",
                    hint=f"The largest files: {listed}. Raise the budget, quantise more, or leave a model out.",
                )


@contextmanager
def nothing_replaced(budgets: Budgets, target: Target, out: Path) -> Iterator[None]:
    """While something is packed at ``out``: the artifact that stood there comes back when ``check_packed`` raises."""
    if budgets.packed is None:
        yield
        return
    with set_aside(out, lambda path: bool(target.manifests(path)), GateError):
        yield


def check_packed(budgets: Budgets, artifact: Artifact, bundles: tuple[Bundle, ...]) -> None:
    """Raise GateError, with the largest components, when what is sent to one machine is larger than its budget."""
    if budgets.packed is None:
        return
    for name, size in (artifact.packed or {artifact.media: artifact.size}).items():
        if size > budgets.packed:
            raise GateError(
                f"{name} is {size / 1e6:.1f} MB packed, the budget is {budgets.packed / 1e6:.1f} MB",
                where="budgets.packed",
                hint=f"The largest components, unpacked: {largest(bundles[0])}. Raise the budget, quantise more, "
                "or leave a model out.",
            )


def running(budgets: Budgets) -> dict[str, Json]:
    """What ``verify`` has to hold, for the manifest; nothing where the spec limits nothing of it."""
    if budgets.cold_start is None:
        return {}
    return {RUNNING: {COLD_START: round(budgets.cold_start * 1000, 3)}}


def largest(bundle: Bundle) -> str:
    """The three largest components of a bundle with their sizes, unpacked."""
    sizes = list(components(bundle.manifest).items())[:3]
    return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes)
