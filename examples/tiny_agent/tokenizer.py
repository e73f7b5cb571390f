"""Train the tokenizer: byte-level BPE in which a word is always the same tokens, whatever stands before it.

A model this small copies by recognising tokens, so `port` after a quote must be the very token it is after a space.
The normalizer writes GLUE and a space before each word that has no space of its own; the decoder removes the pair. It
stays lossless for every text without the GLUE character, in one pass and in a stream.
"""

from __future__ import annotations

import argparse
import json
import string
from collections.abc import Iterator
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

GLUE = "\x02"
PAD, START, END, CALL, CALL_END = "<|pad|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"
VOCABULARY = 4096

# Every word not preceded by a space or a letter is marked; 's and its kin stay with the word they end.
UNSPACED = r"(?<![ \p{L}])(?<!\p{L}')"
PIECES = "|".join(
    [
        r"(?<=\p{L})'(?:s|t|re|ve|m|ll|d)(?!\p{L})",
        r" \p{L}+|\p{L}+",
        r"\[\p{N}\]",  # a passage number is one token, in the prompt and in the citation
        r"\p{N}",  # digits one by one, so that numbers are copied like words
        r"(?: (?!\[\p{N}\]))?[^\s\p{L}\p{N}" + GLUE + r"]+" + GLUE + "?",  # `"` and its mark are one token
        r" +(?= )",
        r"[^\S\n]" + GLUE + "?",
        r"\n+",  # never merged with a mark: an answer starts after a newline the prompt has already spent
        GLUE,
    ]
)


def build(texts: Iterator[str]) -> Tokenizer:
    """A trained tokenizer of VOCABULARY tokens."""
    tokenizer = Tokenizer(models.BPE())
    # One rule per letter: a pattern of zero width would say it once, but tokenizers 0.23 then miscounts and panics.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(UNSPACED + letter), f"{GLUE} {letter}") for letter in string.ascii_letters]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # A mark whose word is not decoded yet shows as nothing, so a stream never has to take text back.
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace(GLUE + " ", ""), decoders.Replace(GLUE, "")]
    )
    special = [PAD, START, END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(CALL, normalized=False), AddedToken(CALL_END, normalized=False)])
    return tokenizer


def texts(corpus: Path) -> Iterator[str]:
    """Corpus text in the shapes the model will see it, so that each shape has its tokens."""
    for number, line in enumerate(corpus.open()):
        for heading, *sentences in json.loads(line)["paragraphs"]:
            marker = f"[{number % 6 + 1}]"
            yield f"Passages:\n{marker} {heading}\n{' '.join(sentences)}\nQuestion: {sentences[0].lower()}\n"
            yield f"According to {marker}: {sentences[-1]}"
            yield "assistant\nuser\ntool\nsystem\nI don't know. The passages do not say.\nTools:\n- get_weather(city: string, query: string)\n"
            yield f'\n{{"name": "{heading.split(" ")[0].lower()}", "arguments": {{"query": "{heading}", "value": {number}}}}}\n'
            yield f"- {heading.split(' ')[-1]}(expression: string, value: number, unit: string) - {heading}\n"


def check(tokenizer: Tokenizer, strings: list[str]) -> None:
    """Fail unless every string comes back from its tokens, whole and token by token."""
    for text in strings:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text, text
        stream = decoders.DecodeStream(skip_special_tokens=False)
        assert "".join(stream.step(tokenizer, token) or "" for token in ids) == text, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("tokenizer.json"))
    options = parser.parse_args()
    tokenizer = build(texts(options.corpus))
    tokenizer.save(str(options.out))
    lines = [json.loads(line)["paragraphs"] for line in options.corpus.open()]
    real = [sentence for paragraphs in lines[::7] for paragraph in paragraphs for sentence in paragraph]
    odd = [
        "",
        " ",
        "\n",
        "a\n\n b",
        "  two  spaces ",
        "tab\tword",
        "don't can't 'quoted' o'clock",
        "x3y 3rd /usr/lib_a-b",
        'é"ñ" 日本語 text 漢字',
        "emoji 🙂 ok🙂ok",
        "[1] a[2]b [12] ([3])",
        '<tool_call>\n{"name": "a"}\n</tool_call>',
        "<|im_start|>user\nHi<|im_end|>\n",
        "\r\n mixed\r\nends \n\n\n",
        "trailing   ",
        "naïve “quoted” — dash",
        "''s 's I'd'",
    ]
    check(tokenizer, real + odd)
    print(f"{tokenizer.get_vocab_size()} tokens; {len(real) + len(odd)} strings came back whole and streamed")


if __name__ == "__main__":
    main()
