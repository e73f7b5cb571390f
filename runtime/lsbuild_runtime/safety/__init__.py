"""What a shield is to the rest of the runtime: findings, verdicts and the guard of a stream; types only, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from msgspec import Struct

from lsbuild_runtime.http import Context

Action = Literal["block", "redact", "warn"]
"""What a finding leads to: nothing may be sent on, the found characters are replaced, or it is only reported."""

Where = Literal["input", "output", "tool_args", "retrieved"]
"""Which text is looked at: a user's, a model's, the arguments of a tool call, or what came from documents and tools."""


class Category(Struct, frozen=True):
    """A kind of harm, with its names elsewhere: codes of Llama Guard's taxonomy (``S1`` to ``S14``), and OpenAI's."""

    name: str
    llama_guard: tuple[str, ...] = ()
    openai: tuple[str, ...] = ()


class Finding(Struct, frozen=True):
    """One match of a rule, or one category that a model sees in a text.

    ``start`` and ``end`` are character offsets in the text as it was given; ``score`` (0..1) is how sure the shield is.
    """

    rule: str
    category: str
    action: Action
    start: int
    end: int
    message: str
    score: float = 1.0


class Verdict(Struct, frozen=True):
    """What a shield says about a whole text.

    ``text`` is the text with what is to be redacted replaced; when ``blocked``, what stands before the block. ``scores``
    (0..1, by category) are those of a shield that scores, also where nothing was found.
    """

    findings: tuple[Finding, ...]
    text: str
    blocked: Finding | None = None
    scores: Mapping[str, float] = {}


class Guard(Protocol):
    """Looks at a stream before it leaves. It belongs to one stream and one thread."""

    @property
    def blocked(self) -> Finding | None:
        """What ended the stream; nothing is released from then on."""
        ...

    def feed(self, text: str) -> str:
        """Take what the stream goes on with; returns what may be sent now. ApiError when it cannot look."""
        ...

    def end(self) -> str:
        """The stream is complete; returns what is left to send. Call it once."""
        ...

    def held(self) -> str:
        """What was taken and is neither released nor replaced: after an error, what nobody has looked at."""
        ...

    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, in the order of the text."""
        ...


class Safety(Protocol):
    """A shield. It may be used from several threads."""

    def categories(self) -> tuple[Category, ...]:
        """What it looks for."""
        ...

    def check(self, text: str, where: Where, context: Context) -> Verdict:
        """Look at a whole text. ApiError 503 when it cannot: a text that was not looked at is never let through."""
        ...

    def guard(self, where: Where, context: Context) -> Guard:
        """Look at a text that comes in pieces; what it releases in all is the same at any split.

        Where a shield looks for what is written it is ``check``'s text of the whole. One that judges meaning looks at one
        sentence after the other (see `pieces`), and may see more in one than in the whole.
        """
        ...
