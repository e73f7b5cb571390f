"""Document -> passages of at most so many tokens, cut where the structure allows; it neither embeds nor writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from lsbuild_runtime.ingest.document import Document, Lines, Section, Span
from lsbuild_runtime.ports import Passage, passage_id

HEADING_SHARE = 4
"""The heading path may take one part in so many of the token budget; longer paths lose their outermost titles."""

CHARS_PER_TOKEN = 16
"""A passage has at most so many characters for each token of the budget: some tokenizers read a megabyte without blanks
as one unknown token."""


class Chunker:
    """Cuts documents for one model.

    ``tokens`` bounds what the model reads: its special tokens, the heading path and the text. Whole blocks of one
    section are packed together while they fit; a block that does not fit alone is cut at sentences, lines or words by
    semantic-text-splitter, its parts sharing up to ``overlap`` tokens.
    """

    def __init__(self, tokenizer: Path, tokens: int, overlap: int) -> None:
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._heading_tokens = tokens // HEADING_SHARE
        self._room = tokens - self._tokenizer.num_special_tokens_to_add(False)
        self._overlap = overlap
        self._splitters: dict[int, TextSplitter] = {}

    def cut(self, document: Document) -> Iterator[Passage]:
        """The passages of a document, in order."""
        lines = Lines(document.text)
        for section in document.sections:
            prefix = self._prefix(section.heading)
            room = self._room - (self.count(f"{prefix}\n") if prefix else 0)
            for span in self._pack(document.text, section, room):
                text = document.text[span.start : span.end]
                if not any(map(str.isalnum, text)):
                    continue  # a cut can leave brackets or a row of dashes, which say nothing and match anything
                yield Passage(
                    chunk_id=passage_id(document.path, span.start, span.end, text),
                    text=text,
                    heading=_shown(section),
                    prefix=prefix,
                    start=span.start,
                    end=span.end,
                    line_start=section.line or lines.number(span.start),
                    line_end=section.line or lines.number(span.end - 1),
                )

    def count(self, text: str) -> int:
        """Tokens of ``text`` without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _pack(self, text: str, section: Section, room: int) -> Iterator[Span]:
        held: Span | None = None
        for block in section.blocks:
            joined = Span(held.start if held else block.start, block.end)
            if self._fits(text, joined, room):
                held = joined
                continue
            if held:
                yield held
            held = block if self._fits(text, block, room) else None
            if held is None:
                yield from self._split(text, block, room)
        if held:
            yield held

    def _fits(self, text: str, span: Span, room: int) -> bool:
        short = span.end - span.start <= room * CHARS_PER_TOKEN
        return short and self.count(text[span.start : span.end]) <= room

    def _split(self, text: str, block: Span, room: int) -> Iterator[Span]:
        """Cut a block that does not fit, a window at a time: the splitter's time grows with the square of its input.

        The last part of a window is cut again with what follows it, so that window edges leave no mark.
        """
        start = block.start
        while start < block.end:
            end = _window_end(text, start, block.end, room * CHARS_PER_TOKEN)
            parts = self._parts(text, Span(start, end), room)
            if end < block.end and len(parts) > 1:
                end = parts.pop().start
            yield from parts
            start = end

    def _parts(self, text: str, window: Span, room: int) -> list[Span]:
        if self._fits(text, window, room):
            return [window]
        if room not in self._splitters:
            splitter = TextSplitter.from_huggingface_tokenizer(self._tokenizer, room, min(self._overlap, room // 2))
            self._splitters[room] = splitter
        pieces = self._splitters[room].chunk_indices(text[window.start : window.end])
        return [Span(window.start + offset, window.start + offset + len(piece)) for offset, piece in pieces]

    def _prefix(self, heading: tuple[str, ...]) -> str:
        """The innermost titles that fit the heading's share, outermost first."""
        kept = ""
        for title in reversed(heading):
            longer = f"{title} > {kept}" if kept else title
            if self.count(longer) > self._heading_tokens:
                break
            kept = longer
        return kept


def _shown(section: Section) -> str:
    """The heading that readers see; the page is its last part, so that a citation leads there, and is not embedded."""
    return " > ".join((*section.heading, f"page {section.page}") if section.page else section.heading)


def _window_end(text: str, start: int, end: int, size: int) -> int:
    """``end``, or the last blank in the second half of ``size`` characters from ``start``, or those without a blank."""
    if end - start <= size:
        return end
    half, full = start + size // 2, start + size
    blank = max(text.rfind(" ", half, full), text.rfind("\n", half, full))
    return blank + 1 if blank >= 0 else full
