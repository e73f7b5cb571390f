"""A text that a spec holds itself or names the file of: instructions, prompts; it knows no plugin."""

from __future__ import annotations

from collections.abc import Mapping

from lsbuild.api import Source, SourceError

_SUFFIXES = (".md", ".txt")


def path_of(text: str) -> str:
    """The path of the file that holds the text, or "" when it is the text itself."""
    one_word = text.strip()
    return one_word if one_word.endswith(_SUFFIXES) and "\n" not in one_word else ""


def read(text: str, sources: Mapping[str, Source], what: str) -> str:
    """The text, from the only file of ``sources`` if there is one; SourceError for a file that is not UTF-8."""
    for source in sources.values():
        for file in source.files:
            try:
                text = file.location.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"the {what} are not UTF-8 (byte {error.start})", where=source.uri, hint="Save them as UTF-8."
                ) from error
    return text
