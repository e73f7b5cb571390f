"""What the labels of classifiers mean: those of a spec, and those whose names say it themselves; it runs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.safety import Action, Category


class Label(Struct, frozen=True):
    """What one label stands for; see the spec."""

    category: str
    threshold: float = 0.5
    action: Action = "block"
    message: str = ""
    llama_guard: tuple[str, ...] = ()
    openai: tuple[str, ...] = ()


_TOXIC = Label("toxicity", openai=("harassment",))
_HATE = Label("hate", llama_guard=("S10",), openai=("hate",))
_INJECTION = Label("prompt-injection")
KNOWN: Mapping[str, Label] = {
    "injection": _INJECTION,
    "prompt_injection": _INJECTION,
    "malicious": _INJECTION,
    "jailbreak": Label("jailbreak"),
    "toxic": _TOXIC,
    "toxicity": _TOXIC,
    "severe_toxic": _TOXIC,
    "severe_toxicity": _TOXIC,
    "obscene": Label("obscenity"),
    "threat": Label("threat", llama_guard=("S1",), openai=("harassment/threatening",)),
    "insult": Label("insult", openai=("harassment",)),
    "identity_hate": _HATE,
    "identity_attack": _HATE,
    "hate": _HATE,
    "hateful": _HATE,
    "sexual_explicit": Label("sexual", llama_guard=("S12",), openai=("sexual",)),
    "nsfw": Label("sexual", llama_guard=("S12",), openai=("sexual",)),
}
"""Labels in small letters, as the cards of published classifiers have them."""


def meanings(labels: Sequence[str], given: Mapping[str, Any]) -> dict[int, Label]:
    """Place of a label -> what it stands for; those that stand for nothing (``SAFE``) are left out.

    ``given`` is the spec's ``labels``; where it is empty, names are read. Nothing when no name says what it means.
    """
    if given:
        return {labels.index(name): msgspec.convert(value, Label) for name, value in given.items()}
    plain = [label.lower().replace("-", "_").replace(" ", "_") for label in labels]
    return {place: KNOWN[name] for place, name in enumerate(plain) if name in KNOWN}


def categories(labels: Mapping[int, Label]) -> tuple[Category, ...]:
    """The categories of the labels; labels that share one are joined."""
    found: dict[str, Category] = {}
    for label in labels.values():
        known = found.get(label.category, Category(label.category))
        codes = tuple(dict.fromkeys((*known.llama_guard, *label.llama_guard)))
        elsewhere = tuple(dict.fromkeys((*known.openai, *label.openai)))
        found[label.category] = Category(label.category, codes, elsewhere)
    return tuple(found.values())
