# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Units of measure."""

__all__ = ["convert"]

# How much of the base unit of its kind each unit is.
KINDS = (
    {
        "mm": 0.001,
        "cm": 0.01,
        "metres": 1,
        "km": 1000,
        "inches": 0.0254,
        "feet": 0.3048,
        "yards": 0.9144,
        "miles": 1609.344,
    },
    {"grams": 1, "kg": 1000, "tonnes": 1e6, "ounces": 28.349523125, "pounds": 453.59237},
    {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800},
    {"bytes": 1, "kilobytes": 1000, "megabytes": 1e6, "gigabytes": 1e9},
)


def convert(value: float, from_unit: str, to_unit: str) -> str:
    """Convert a value from one unit to another.

    Args:
        value: The number to convert.
        from_unit: Its unit, such as km or pounds.
        to_unit: The unit that is wanted.
    """
    for kind in KINDS:
        if from_unit in kind and to_unit in kind:
            return f"{value * kind[from_unit] / kind[to_unit]:.10g}"
    raise ValueError(f"cannot convert {from_unit} to {to_unit}")
