"""Token ids to text, as they come: whole characters only, stop strings held back; it knows no model and no sampling."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``mark``, but not all of it."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0


class StopFilter:
    """Passes text on up to the first stop string, none of whose characters it ever shows.

    The match that is complete first wins, so the result does not depend on where the text was cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stop = ""
        """The stop string that ended the text."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was completed."""
        return bool(self.stop)

    def feed(self, piece: str) -> str:
        """The text that may be shown now; sets ``stop`` when a stop string is complete."""
        if not self._stops:
            return piece
        self._held += piece
        ends = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            _, at, self.stop = min(ends)
            shown, self._held = self._held[:at], ""
            return shown
        keep = max(overlap(self._held, stop) for stop in self._stops)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def finish(self) -> str:
        """What was held back when no more text comes."""
        held, self._held = self._held, ""
        return held


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al. 2019, encoder.py), from character to byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return table


BORDER = "\ufdd0"
"""A noncharacter (Unicode reserves it for internal use) at which a prompt is cut before it is encoded."""


_LEAD = "\x02"
"""Put before a text, it takes the space that some tokenizers write at a text's beginning; nothing merges with it."""


class Detokeniser(Protocol):
    """Turns one sequence of ids into text, piece by piece."""

    def push(self, token: int) -> str:
        """The characters that ``token`` completes, or ""."""
        ...

    def finish(self) -> str:
        """What is left: broken UTF-8 becomes U+FFFD."""
        ...


class Vocabulary:
    """A tokenizer with what streaming needs to know about it. Thread-safe; made once per model.

    Special tokens are not text, except those in ``markers`` (around tool calls and reasoning). ``controls`` are all of them,
    ``hidden`` those that are not text.
    """

    def __init__(self, tokenizer: Tokenizer, markers: Collection[str] = ()) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.hidden = frozenset(
            number
            for number, token in added.items()
            if token.special and not any(token.content in marker for marker in markers)
        )
        self.controls = frozenset(number for number, token in added.items() if token.special)
        special = sorted((token.content for token in added.values() if token.special and token.content), key=len)
        self._specials = re.compile(f"({'|'.join(map(re.escape, reversed(special))) or '(?!)'})")
        self._shielded = _first_characters(token.content for token in added.values() if token.special)
        self._decoder: Any = json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder else {"type": "None"}
        self._chain: list[dict[str, Any]] = self._decoder.get("decoders", [self._decoder])
        self._alphabet = _byte_level_alphabet()
        self._byte_level = [step["type"] for step in self._chain] == ["ByteLevel"]
        self._bytes = self._chain[0]["type"] == "ByteLevel"
        self.joiner = _joiner(self._chain)
        self._spaces = tuple(_spaces(self._chain))

    def shield(self, text: str) -> str:
        """``text`` with a BORDER inside whatever looks like a special token, so that ``encode`` reads it as plain text.

        Without it anyone who writes a message, or a document that is retrieved, could end the user's turn and speak as
        the system.
        """
        return self._shielded.sub(rf"\1{BORDER}", text.replace(BORDER, ""))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids; special tokens are read as such unless they were shielded. Adds none of its own."""
        pieces = (self.tokenizer.encode(piece, add_special_tokens=False).ids for piece in text.split(BORDER) if piece)
        return tuple(token for piece in pieces for token in piece)

    def pieces(self, text: str) -> Iterable[str | int]:
        """``text`` cut at its special tokens, which are given by their ids."""
        for piece in self._specials.split(text):
            if piece:
                token = self.tokenizer.token_to_id(piece)
                yield token if token is not None and token in self.controls else piece

    def continued(self, text: str) -> tuple[int, ...]:
        """Token ids of plain ``text`` in the middle of a longer one: no special token, no space that a text begins with.

        Empty when the tokenizer does not cut it so that its bytes come back.
        """
        guarded, wanted = self.shield(text), text.encode()
        direct = self.encode(guarded)
        if b"".join(map(self.raw, direct)) == wanted:
            return direct
        lead, after = self.encode(_LEAD), self.encode(_LEAD + guarded)
        rest = after[len(lead) :]
        return rest if after[: len(lead)] == lead and b"".join(map(self.raw, rest)) == wanted else ()

    def stream(self) -> Detokeniser:
        """A new stream."""
        return _ByteStream(self) if self._byte_level else _WindowStream(self, _reach(self._chain))

    def text(self, ids: Sequence[int]) -> str:
        """The text of a whole sequence."""
        decoded: str = self.tokenizer.decode(
            [token for token in ids if token not in self.hidden], skip_special_tokens=False
        )
        return decoded

    def joins(self, token: int) -> bool:
        """Whether the space at the beginning of the token after this one is dropped."""
        piece: str | None = self.tokenizer.id_to_token(token) if self.joiner else None
        return piece is not None and bytes(self._alphabet.get(char, 0) for char in piece).endswith(self.joiner)

    def raw(self, token: int) -> bytes:
        """The bytes one token stands for, wherever it stands (after one that ``joins``, without its first space)."""
        piece: str | None = self.tokenizer.id_to_token(token)
        if piece is None:
            return b""
        if self._bytes:
            try:
                found = bytes([self._alphabet[char] for char in piece])
            except KeyError:
                return piece.encode()
            return found.replace(self.joiner, b"") if self.joiner else found
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        for mark in self._spaces:
            piece = piece.replace(mark, " ")
        return piece.encode()


def _first_characters(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches the first character of each of ``texts`` where they stand in a text, also where they overlap."""
    known = [text for text in texts if text]
    return re.compile(f"(?={_any_of(known)})(.)" if known else "(?!)()", re.DOTALL)


def _any_of(texts: Sequence[str]) -> str:
    """A pattern for any of ``texts``, as a tree of their common beginnings: models have hundreds of special tokens, and
    trying them one by one at each place made a megabyte of "<" cost seconds.
    """
    if "" in texts:
        return ""
    rests: dict[str, list[str]] = {}
    for text in texts:
        rests.setdefault(text[0], []).append(text[1:])
    branches = [re.escape(first) + _any_of(rest) for first, rest in rests.items()]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _spaces(chain: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The characters that a decoder writes as a space."""
    for step in chain:
        if step["type"] == "Metaspace":
            yield step["replacement"]
        elif step["type"] == "Replace" and step["content"] == " " and "String" in step["pattern"]:
            yield step["pattern"]["String"]


def _joiner(chain: Sequence[dict[str, Any]]) -> bytes:
    """The mark that a byte-level tokenizer writes where a word follows without a space, as the tiny agent's does.

    Its words all begin with a space; the decoder drops the mark, and the space after it. b"" for other tokenizers.
    """
    match chain:
        case [{"type": "ByteLevel"}, *steps] if steps and all(step["type"] == "Replace" for step in steps):
            marks = [str(step["pattern"].get("String", "")) for step in steps if not step["content"]]
            mark = marks[-1].encode()
            return mark if mark and marks == [f"{marks[-1]} ", marks[-1]] else b""
    return b""


def _reach(chain: Sequence[dict[str, Any]]) -> int:
    """How many characters at the end later tokens may still change: decoders replace across tokens only after Fuse."""
    reach, fused = 0, False
    for step in chain:
        if step["type"] == "Fuse":
            fused = True
        elif fused and step["type"] == "Replace":
            # The reach of a regular expression is not known; 64 characters are more than any tokenizer's.
            reach = max(reach, len(step["pattern"].get("String", "x" * 65)) - 1)
        elif fused and step["type"] == "Strip":
            reach = max(reach, step["stop"])
    return reach


class _ByteStream:
    """Byte-level tokenizers: each token is bytes, so an incremental UTF-8 decoder is exact and needs no look back."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        if token in self._vocabulary.hidden:
            return ""
        return self._utf8.decode(self._vocabulary.raw(token))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _WindowStream:
    """Any other decoder: decodes a short window twice and shows the difference.

    The method is Text Generation Inference's: the window starts at a token whose text is out already, so that what
    decoders do at the start of a text cancels out. With a ``reach`` the whole text is decoded each time instead.
    """

    def __init__(self, vocabulary: Vocabulary, reach: int) -> None:
        self._vocabulary = vocabulary
        self._reach = reach
        self._ids: list[int] = []
        self._start = 0
        self._read = 0
        self._shown = 0

    def push(self, token: int) -> str:
        if token in self._vocabulary.hidden:
            return ""
        self._ids.append(token)
        return self._all(self._reach) if self._reach else self._window()

    def finish(self) -> str:
        if self._reach:
            return self._all(0)
        return self._decode(self._start)[len(self._decode(self._start, self._read)) :]

    def _decode(self, start: int, end: int | None = None) -> str:
        text: str = self._vocabulary.tokenizer.decode(self._ids[start:end], skip_special_tokens=False)
        return text

    def _window(self) -> str:
        before, text = self._decode(self._start, self._read), self._decode(self._start)
        if len(text) <= len(before) or text.endswith("�"):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(before) :]

    def _all(self, reach: int) -> str:
        text = self._decode(0)
        end = len(text) - reach
        if end <= self._shown or (reach and text.endswith("�")):
            return ""
        piece, self._shown = text[self._shown : end], end
        return piece
