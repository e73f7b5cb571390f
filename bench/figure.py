"""One measured figure: its line on the screen and its entry in latest.json; it measures nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What the design allows: a limit on our own figure ("ours") or on the ratio to the peer ("ratio")."""

    limit: float
    of: Literal["ours", "ratio"] = "ours"


@dataclass(frozen=True, slots=True)
class Figure:
    """One comparison. ``ours`` and ``peer`` have the same ``unit``.

    ``peer`` is None when nobody was measured beside us in this run; a number read elsewhere is never a peer.
    """

    name: str
    ours: float
    unit: str
    better: Better
    peer: float | None = None
    peer_name: str = ""
    budget: Budget | None = None
    conditions: str = ""

    @property
    def ratio(self) -> float | None:
        """``ours / peer``; without a peer ``ours / budget``; None when there is neither (or it is zero)."""
        reference = self.peer
        if reference is None and self.budget is not None and self.budget.of == "ours":
            reference = self.budget.limit
        return self.ours / reference if reference else None

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None when there is none or it cannot be told."""
        value = self.ours if self.budget is not None and self.budget.of == "ours" else self.ratio
        if self.budget is None or value is None:
            return None
        return value >= self.budget.limit if self.better == "higher" else value <= self.budget.limit

    def line(self) -> str:
        """``name ours=… peer=… ratio=… unit``; "-" stands for what there is not.

        With ``peer=-`` the ratio is to the design's budget.
        """
        return f"{self.name} ours={number(self.ours)} peer={number(self.peer)} ratio={number(self.ratio)} {self.unit}"

    def to_json(self) -> dict[str, Any]:
        """The entry of latest.json, with ``ratio`` and ``met`` worked out."""
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


def number(value: float | None) -> str:
    """Three or four digits, never an exponent; "-" for None."""
    if value is None:
        return "-"
    for least, digits in ((100, 0), (10, 1), (1, 2)):
        if abs(value) >= least:
            return f"{value:.{digits}f}"
    return f"{value:.3f}"
