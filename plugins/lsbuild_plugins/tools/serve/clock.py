"""The date and the time in a time zone; it reads the clock of this machine and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.tools import ToolResult

DESCRIPTION = "Tells the date, the day of the week and the time now, in {zone} or in another time zone."


class Clock:
    """Tells the time; ``zone`` is an IANA name. ApiError 503 when it is none."""

    def __init__(self, zone: str, now: Callable[[], float] = time.time) -> None:
        if _zone(zone) is None:
            raise ApiError(503, f"{zone[:60]!r} is no time zone; write it like Europe/Berlin", type="server_error")
        self.zone = zone
        self._now = now

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of a call."""
        return parameters(self.zone)

    def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """One line, such as ``2026-11-28T07:10:00+01:00, Saturday (Europe/Berlin)``."""
        wanted = str(arguments.get("timezone") or self.zone)
        zone = _zone(wanted)
        if zone is None:
            return ToolResult(f"{wanted[:60]!r} is no time zone. Use an IANA name such as Europe/Berlin.", failed=True)
        now = datetime.fromtimestamp(self._now(), zone)
        stamp = now.isoformat(timespec="seconds")
        told = {"time": stamp, "weekday": _DAYS[now.weekday()], "timezone": wanted, "unix": int(now.timestamp())}
        return ToolResult(f"{stamp}, {_DAYS[now.weekday()]} ({wanted})", structured=told)


def parameters(zone: str) -> Mapping[str, Any]:
    """The JSON Schema of a call to a clock of that zone."""
    told = f"An IANA name, such as Europe/Berlin or America/New_York. Default: {zone}."
    return {
        "type": "object",
        "properties": {"timezone": {"type": "string", "maxLength": 64, "description": told}},
        "additionalProperties": False,
    }


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # unknown, a folder of zones, a path, too long a name
        return None
