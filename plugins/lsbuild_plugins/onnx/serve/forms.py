"""How a model writes what is not its answer: tool calls and reasoning; data of its card, found at build in its template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct


class ToolForm(Struct, frozen=True, kw_only=True):
    """Where a call begins and ends, and what stands between; the texts are the template's own.

    Calls are written ``begin  open CALL close  join  open CALL close  end``. CALL is, by ``shape``:

    - ``object``: one JSON object with the name under ``name_key`` and the arguments under ``arguments_key``
    - ``named``: NAME ``middle`` and the arguments as a JSON object
    - ``pairs``: NAME ``middle``, then for each argument ``key_open`` KEY ``key_close`` VALUE ``value_close``, with
      ``pair_join`` between them
    - ``python``: NAME(KEY=VALUE, KEY=VALUE)

    VALUE of ``pairs``: a string stands as it is (``quote`` "") or between two ``quote``; anything else is JSON, with
    ``quote`` in place of quotation marks.
    """

    family: str
    """What people call the form, for the report: hermes, mistral, qwen3-coder ... or "own"."""
    shape: Literal["object", "named", "pairs", "python"] = "object"
    begin: str = ""
    open: str = ""
    close: str = ""
    join: str = ""
    end: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"
    comma: str = ", "
    colon: str = ": "
    """What the JSON of a call has between its members, and after a key."""
    middle: str = ""
    key_open: str = ""
    key_close: str = ""
    value_close: str = ""
    pair_join: str = ""
    quote: str = ""
    parallel: bool = True
    """Whether the template takes more than one call in a turn."""
    short_ids: bool = False
    """Whether it takes call ids of nine letters or digits only."""
    text_arguments: bool = False
    """Whether it takes the arguments of earlier calls as JSON text; most want objects."""

    @property
    def opener(self) -> str:
        """The text at which a call is recognised; "" when an answer is a call by its first character."""
        for text in (self.begin, self.open):
            mark = text.strip().rstrip('[{"').split()
            if mark:
                return mark[0]
        return ""


class Reasoning(Struct, frozen=True):
    """The marks around what a model thinks before it answers."""

    open: str
    close: str


HERMES = ToolForm(family="hermes", open="<tool_call>\n", close="\n</tool_call>", join="\n")
MISTRAL = ToolForm(family="mistral", begin="[TOOL_CALLS][", join=", ", end="]", short_ids=True)
GRANITE = ToolForm(family="granite", begin="<|tool_call|>[", join=", ", end="]")
PHI = ToolForm(family="phi", begin="<|tool_call|>[", join=", ", end="]<|/tool_call|>")
LLAMA = ToolForm(family="llama3-json", arguments_key="parameters", join="; ")
PYTHONIC = ToolForm(family="pythonic", shape="python", begin="[", join=", ", end="]")
THINK = Reasoning("<think>", "</think>")


def marks(form: ToolForm | None, reasoning: Reasoning | None) -> Iterable[str]:
    """Texts in which special tokens may stand that are not to be hidden from the parsers."""
    if form is not None:
        parts = (form.begin, form.open, form.close, form.join, form.end, form.middle, form.quote)
        yield from (*parts, form.key_open, form.key_close, form.value_close, form.pair_join)
    if reasoning is not None:
        yield from (reasoning.open, reasoning.close)
