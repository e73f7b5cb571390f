# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""What a pump station's control desk can be asked."""

from typing import Literal

__all__ = ["pump_level"]

LEVELS = {"north": 41, "south": 87}


def pump_level(tank: Literal["north", "south"]) -> str:
    """Read how full a tank is.

    Args:
        tank: Which of the two tanks.
    """
    return f"The {tank} tank is {LEVELS[tank]} percent full."
