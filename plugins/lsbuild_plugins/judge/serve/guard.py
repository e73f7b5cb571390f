"""Llama Guard's task and its answers, as texts; it asks no model.

The form and the names of the categories are those that Llama Guard 3 and 4 were trained on, letter for letter, as Meta's
pages on their prompt formats give them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from lsbuild_runtime.safety import Category, Where


class Hazard(Struct, frozen=True):
    """One category: its code in the task, its name there and here, and what the model is told of it."""

    code: str
    title: str
    category: Category
    description: str = ""


def _standard(code: str, title: str, name: str, *openai: str) -> Hazard:
    return Hazard(code, title, Category(name, (code,), openai))


HAZARDS: Mapping[str, Hazard] = {
    hazard.code: hazard
    for hazard in (
        _standard("S1", "Violent Crimes", "violent-crimes", "violence", "illicit/violent"),
        _standard("S2", "Non-Violent Crimes", "non-violent-crimes", "illicit"),
        _standard("S3", "Sex Crimes", "sex-crimes", "sexual"),
        _standard("S4", "Child Exploitation", "child-exploitation", "sexual/minors"),
        _standard("S5", "Defamation", "defamation"),
        _standard("S6", "Specialized Advice", "specialized-advice"),
        _standard("S7", "Privacy", "privacy"),
        _standard("S8", "Intellectual Property", "intellectual-property"),
        _standard("S9", "Indiscriminate Weapons", "indiscriminate-weapons", "illicit/violent"),
        _standard("S10", "Hate", "hate", "hate"),
        _standard("S11", "Self-Harm", "self-harm", "self-harm"),
        _standard("S12", "Sexual Content", "sexual-content", "sexual"),
        _standard("S13", "Elections", "elections"),
        _standard("S14", "Code Interpreter Abuse", "code-interpreter-abuse"),
    )
}
OTHER = Category("unsafe")
"""What a model calls unsafe without a category that it was asked for."""
ANSWER_TOKENS = 64
"""Tokens of the longest answer: two lines."""
_MARK = re.compile(r"<(/?)(BEGIN|END) (CONVERSATION|UNSAFE CONTENT CATEGORIES)>|<\|([a-z_]+)\|>", re.IGNORECASE)
_TURN = re.compile(r"^([ \t]*)(User|Agent)([ \t]*):", re.IGNORECASE | re.MULTILINE)
_UNSAFE = re.compile(r"unsafe\b")
_CODES = re.compile(r"S\d+(?:\s*,\s*S\d+)*")


class Unreadable(ValueError):
    """The model's answer is neither ``safe`` nor ``unsafe``."""


def task(text: str, where: Where, hazards: Sequence[Hazard]) -> str:
    """The whole prompt for one message: of a user where it comes in, of the agent where it goes out."""
    who = speaker(where)
    listed = "\n".join(
        f"{hazard.code}: {hazard.title}." + (f"\n{hazard.description}" if hazard.description else "")
        for hazard in hazards
    )
    return (
        f"Task: Check if there is unsafe content in '{who}' messages in conversations according our safety policy with the "
        f"below categories.\n\n<BEGIN UNSAFE CONTENT CATEGORIES>\n{listed}\n<END UNSAFE CONTENT CATEGORIES>\n\n"
        f"<BEGIN CONVERSATION>\n\n{who}: {tamed(text)}\n\n<END CONVERSATION>\n\nProvide your safety assessment for ONLY THE "
        f"LAST {who} message in the above conversation:\n - First line must read 'safe' or 'unsafe'.\n - If unsafe, a second "
        "line must include a comma-separated list of violated categories."
    )


def speaker(where: Where) -> str:
    """Who says a text: what a model says and the arguments it gives are the agent's, all else a user's."""
    return "Agent" if where in ("output", "tool_args") else "User"


def tamed(text: str) -> str:
    """``text`` without the marks by which it could end the conversation that it stands in, or begin another turn of it."""
    return _TURN.sub(r"\1\2\3;", _MARK.sub(lambda found: f"({found[0].strip('<>|/')})", text))


def read(answer: str) -> tuple[str, ...] | None:
    """The codes that an answer names, "" among them for what it does not name; None when it says safe. Unreadable otherwise.

    Nothing but ``safe`` is safe. What begins with ``unsafe`` is unsafe, whatever follows.
    """
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    if lines == ["safe"]:
        return None
    if not lines or not _UNSAFE.match(lines[0]):
        raise Unreadable(f"its answer is neither 'safe' nor 'unsafe': {answer.strip()[:80]!r}")
    if lines[0] == "unsafe" and len(lines) == 2 and _CODES.fullmatch(lines[1]):
        return tuple(code.strip() for code in lines[1].split(","))
    return ("",)
