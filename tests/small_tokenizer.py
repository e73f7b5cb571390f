"""A real tokenizer for tests, small and made on the spot: single letters are tokens inside words, common words too."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

WORDS = "the a of and to pump valve filter reset press hold button seconds water is in for warranty"


def save_tokenizer(folder: Path) -> Path:
    """Write ``tokenizer.json`` into ``folder`` (made here) and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *WORDS.split()]
    tokenizer = Tokenizer(
        WordPiece({piece: index for index, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]")
    )
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.enable_truncation(128)  # as many published tokenizers have it; sizes must not be cut by it
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
