"""Streams of ids and pieces of text give the same result wherever they are cut."""

from __future__ import annotations

import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from lsbuild_plugins.onnx.serve.text import StopFilter, Vocabulary
from onnx_serve_models import token

EMOJI = "naïve 👩🏽‍🚀 日本語 🎉 end"


def byte_level() -> Tokenizer:
    from tokenizers import pre_tokenizers

    vocab = {char: place for place, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>", "<tool_call>"])
    tokenizer.add_tokens([AddedToken("né w", normalized=False)])
    return tokenizer


def pieces(decoder: decoders.Decoder, *extra: str) -> Tokenizer:
    """A sentencepiece-like vocabulary: words with their space, bytes as a last resort."""
    words = ["▁Hello", "▁world", "lo", "!", "▁", *extra, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[], byte_fallback=True))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


SENTENCEPIECE = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
FUSED_REPLACE = decoders.Sequence([decoders.Fuse(), decoders.Replace("ab!", "X"), decoders.Replace("▁", " ")])
WORDPIECE = decoders.WordPiece(prefix="##", cleanup=True)


def streamed(tokenizer: Tokenizer, ids: list[int], markers: tuple[str, ...] = ()) -> str:
    stream = Vocabulary(tokenizer, markers).stream()
    return "".join([*(stream.push(each) for each in ids), stream.finish()])


def test_byte_level_text_comes_in_whole_characters() -> None:
    tokenizer = byte_level()
    stream = Vocabulary(tokenizer).stream()
    shown = [stream.push(each) for each in tokenizer.encode(EMOJI).ids]
    assert all("�" not in piece for piece in shown)
    assert "👩" in shown, "a character of four bytes comes at once, with its last token"
    assert "".join(shown) + stream.finish() == EMOJI


def test_a_character_that_is_never_completed_becomes_a_replacement() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("🎉").ids[:3]
    stream = Vocabulary(tokenizer).stream()
    assert [stream.push(each) for each in ids] == ["", "", ""]
    assert stream.finish() == "�" == tokenizer.decode(ids)


def test_random_bytes_stream_like_they_decode() -> None:
    tokenizer, rng = byte_level(), random.Random(5)
    for _ in range(50):
        ids = [rng.randrange(256) for _ in range(30)]
        assert streamed(tokenizer, ids) == tokenizer.decode(ids)


def test_added_tokens_with_other_characters_stay_text() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("a né w b").ids
    assert tokenizer.token_to_id("né w") in ids
    assert streamed(tokenizer, ids) == "a né w b"


def test_special_tokens_are_no_text_except_markers() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("a<tool_call>b<eos>").ids
    assert streamed(tokenizer, ids) == "ab"
    assert streamed(tokenizer, ids, ("<tool_call>",)) == "a<tool_call>b"
    assert Vocabulary(tokenizer, ("<tool_call>",)).text(ids) == "a<tool_call>b"


@pytest.mark.parametrize("decoder", [SENTENCEPIECE, decoders.Metaspace(), FUSED_REPLACE, WORDPIECE])
def test_other_decoders_stream_like_they_decode(decoder: decoders.Decoder) -> None:
    tokenizer, rng = pieces(decoder, "##ing", "a", "b", ".", "b!", "do", "n't"), random.Random(11)
    plain = range(12)
    for _ in range(100):
        ids = [rng.choice(plain) for _ in range(12)]
        assert streamed(tokenizer, ids) == tokenizer.decode(ids, skip_special_tokens=False)


def test_byte_fallback_waits_for_the_whole_character() -> None:
    tokenizer = pieces(SENTENCEPIECE)
    base = token(tokenizer, "<0x00>")
    ids = [0, *(base + byte for byte in "🎉".encode()), 1]
    stream = Vocabulary(tokenizer).stream()
    assert [stream.push(each) for each in ids] == ["Hello", "", "", "", "🎉", " world"]


def test_text_that_later_tokens_may_replace_is_held_back() -> None:
    tokenizer = pieces(FUSED_REPLACE, "a", "b")
    stream = Vocabulary(tokenizer).stream()
    shown = [stream.push(token(tokenizer, piece)) for piece in ("a", "b", "!")]
    assert "a" not in "".join(shown)
    assert "".join(shown) + stream.finish() == "X"


def test_raw_bytes_of_tokens() -> None:
    vocabulary = Vocabulary(byte_level())
    ids = vocabulary.tokenizer.encode("é né w").ids
    assert b"".join(map(vocabulary.raw, ids)) == "é né w".encode()
    other = Vocabulary(pieces(SENTENCEPIECE))
    assert [other.raw(each) for each in (0, 5, 260)] == [b" Hello", b"\x00", b"\xff"]
    assert other.raw(9999) == b""


def test_words_that_look_like_special_tokens_stay_words_when_shielded() -> None:
    vocabulary = Vocabulary(byte_level())
    text = "a <eos> b<eos><tool_call>"
    special = {token(vocabulary.tokenizer, "<eos>"), token(vocabulary.tokenizer, "<tool_call>")}
    assert special <= set(vocabulary.encode(text))
    shielded = vocabulary.encode(vocabulary.shield(text))
    assert not special & set(shielded)
    assert vocabulary.tokenizer.decode(shielded) == text
    assert vocabulary.encode(vocabulary.shield("né w")) == vocabulary.encode("né w")
    assert vocabulary.tokenizer.decode(vocabulary.encode(vocabulary.shield("x\ufdd0<e\ufdd0os>"))) == "x<eos>"


def test_special_tokens_inside_each_other_are_all_shielded() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<<eos>", "s><"])
    vocabulary = Vocabulary(tokenizer)
    assert max(vocabulary.encode(vocabulary.shield("<<eos><eos>"))) < 256


def test_a_tokenizer_without_special_tokens_shields_nothing() -> None:
    plain = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    assert Vocabulary(plain).shield("<eos>") == "<eos>"


STOPS = (
    (("STOP",), "abSTOcSTOPd", "abSTOc", True),
    (("abcd", "bc"), "xabcd", "xa", True),
    (("aab",), "aaab", "a", True),
    (("\n\n", "END"), "a\nb\nENEND", "a\nb\nEN", True),
    (("xyz",), "abcxy", "abcxy", False),
    (("日本",), "今日日本語", "今日", True),
    ((), "anything", "anything", False),
)


@pytest.mark.parametrize(("stops", "text", "expected", "stopped"), STOPS)
def test_stop_strings_at_every_split(stops: tuple[str, ...], text: str, expected: str, stopped: bool) -> None:
    cuts = [[text[:i], text[i:j], text[j:]] for i in range(len(text) + 1) for j in range(i, len(text) + 1)]
    for cut in [*cuts, list(text)]:
        filtered, shown = StopFilter(stops), ""
        for piece in cut:
            shown += filtered.feed(piece)
            assert expected.startswith(shown), "what was shown cannot be taken back"
            if filtered.stopped:
                break
        if not filtered.stopped:
            shown += filtered.finish()
        assert (shown, filtered.stopped) == (expected, stopped)


def test_text_that_cannot_begin_a_stop_string_is_not_delayed() -> None:
    filtered = StopFilter(("STOP",))
    assert filtered.feed("hello S") == "hello "
    assert filtered.feed("un") == "Sun"
