"""Near misses: "Did you mean ...?" for every name a user can mistype; pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'model'?`` with a leading blank, a list of what there is when nothing is near, or ""."""
    names = sorted(set(known))
    lowered = {name.lower(): name for name in names}
    close = get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{lowered[close[0]]}'?"
    if names and len(names) <= 12:
        return f" There is: {', '.join(names)}."
    return ""
