"""Ids of another system as names of a spec; pure."""

from __future__ import annotations

import re
from collections.abc import Collection

LONGEST = 63


def name_of(text: str, taken: Collection[str]) -> str:
    """A name like ``text`` that no one has yet: lower case, ``-`` for what a name may not hold."""
    plain = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-._")
    plain = plain if plain[:1].isalpha() else f"x-{plain}".rstrip("-")
    name, number = plain[:LONGEST].rstrip("-._"), 1
    while name in taken:
        number += 1
        name = f"{plain[: LONGEST - len(str(number)) - 1].rstrip('-._')}-{number}"
    return name


def variable_of(*words: str) -> str:
    """The name of an environment variable made of ``words``: ``my-vllm``, ``api_key`` -> ``MY_VLLM_API_KEY``."""
    name = re.sub(r"[^A-Z0-9]+", "_", "_".join(words).upper()).strip("_")
    return name if name[:1].isalpha() else f"X_{name}"
