"""Chat templates: messages to prompt text as transformers' jinja2 environment renders them; a pure function, no model.

The compile half imports ``render`` and proves each shipped template byte-identical to jinja2 before it ships.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import minijinja

RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"})
"""Names that ``chat_template_kwargs`` may not set."""

# transformers marks the assistant's own tokens for training with {% generation %}; as a condition that always holds the
# tag keeps its whitespace control and its balance, and renders the same.
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


class TemplateRefusal(Exception):
    """The template does not accept these messages (``raise_exception``), or failed on them."""


def _refuse(message: str) -> None:
    raise TemplateRefusal(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _plain_tag(match: re.Match[str]) -> str:
    return f"{{%{match[1]} {'endif' if match[2] else 'if true'} {match[3]}%}}"


class ChatTemplate:
    """A parsed template. Thread-safe; raises TemplateRefusal at once when it is not valid jinja."""

    def __init__(self, text: str) -> None:
        self._env = minijinja.Environment(trim_blocks=True, lstrip_blocks=True, debug=False)
        self._env.add_filter("tojson", _tojson)
        self._env.add_global("raise_exception", _refuse)
        self._env.add_global("strftime_now", time.strftime)
        try:
            self._env.add_template("chat", _GENERATION.sub(_plain_tag, text))
        except minijinja.TemplateError as error:
            raise TemplateRefusal(f"not valid jinja: {error.message}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        bos_token: str = "",
        eos_token: str = "",
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt text. Without tools the variable ``tools`` is none, as in transformers; unset tokens are undefined.

        ``extra`` are further variables (``chat_template_kwargs``); names in RESERVED are refused.
        """
        tokens = {"bos_token": bos_token, "eos_token": eos_token}
        variables: dict[str, Any] = {name: text for name, text in tokens.items() if text}
        if taken := RESERVED.intersection(extra or {}):
            raise TemplateRefusal(f"chat_template_kwargs may not set {', '.join(sorted(taken))}")
        variables.update(extra or {})
        variables.update(
            messages=[dict(message) for message in messages],
            tools=[dict(tool) for tool in tools] or None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
        )
        try:
            text: str = self._env.render_template("chat", **variables)
        except minijinja.TemplateError as error:
            raise TemplateRefusal(error.message) from error
        return text


def render(
    text: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    bos_token: str = "",
    eos_token: str = "",
    add_generation_prompt: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Parse and render in one go: a pure function of its arguments (and of the clock, for ``strftime_now``)."""
    return ChatTemplate(text).render(
        messages,
        tools,
        bos_token=bos_token,
        eos_token=eos_token,
        add_generation_prompt=add_generation_prompt,
        extra=extra,
    )
