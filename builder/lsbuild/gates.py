"""Holds the budgets of a spec against the bundles, before anything is written."""

from __future__ import annotations

from lsbuild.api import Bundle
from lsbuild.errors import GateError
from lsbuild.spec.model import Budgets


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
