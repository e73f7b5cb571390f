"""The table behind the canonical view: what each character that is not ASCII stands for; made from Unicode's own data.

Each is taken apart (NFKD), loses its combining marks and its case, and becomes the ASCII letter that it looks like.
Characters that are invisible by themselves (Default_Ignorable_Code_Point) stand for nothing. The look-alikes are a small
table of our own, made by eye from the charts of Cyrillic, Greek, Armenian, Cherokee and Latin letters.
"""

from __future__ import annotations

import unicodedata
from itertools import chain

_INVISIBLE = (
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""Default_Ignorable_Code_Point, from DerivedCoreProperties of the Unicode Character Database."""
_BLOCKS = ((0x80, 0x3400), (0xA490, 0xAC00), (0xF900, 0x17000), (0x1AFF0, 0x20000), (0x2F800, 0x2FA20))
"""Where characters that stand for another one are. The rest are ideographs and Hangul syllables, which stay whole."""
_ALIKE = {
    "a": "аɑαᴀａ",
    "b": "ьвβʙ",
    "c": "сϲᴄⅽ",
    "d": "ԁđᴅɗ",
    "e": "еєəεᴇҽ",
    "f": "ғƒꜰ",
    "g": "ɡցɢ",
    "h": "һհнʜħ",
    "i": "іιıɩɪ",
    "j": "јϳᴊ",
    "k": "кκᴋ",
    "l": "ӏłʟɫ",
    "m": "мᴍ",
    "n": "пոηɴ",
    "o": "оοօøᴏσ",
    "p": "рρᴘþ",
    "q": "ԛզ",
    "r": "гʀɾ",
    "s": "ѕꜱʂ",
    "t": "тτᴛŧ",
    "u": "υսᴜц",
    "v": "νѵᴠ",
    "w": "ԝաωᴡш",
    "x": "хχ",
    "y": "уүγʏ",
    "z": "ᴢʐƶ",
    "'": "‘’‚‛ʼ`´",
    '"': "“”„«»",
    "-": "‐‑‒–—―−",
}
LOOKS_LIKE = {ord(other): letter for letter, others in _ALIKE.items() for other in others if not other.isascii()}


def table() -> dict[int, str]:
    """Code point -> what stands for it, for all that do not stand for themselves; about 11,000."""
    found = {
        code: text
        for code in chain.from_iterable(range(*block) for block in _BLOCKS)
        if (text := stands_for(chr(code))) != chr(code)
    }
    return found | dict.fromkeys((code for first, last in _INVISIBLE for code in range(first, last + 1)), "")


def stands_for(character: str) -> str:
    """What one character that is not ASCII is in the view, apart from the invisible ones."""
    if ord(character) in LOOKS_LIKE:
        return LOOKS_LIKE[ord(character)]
    return "".join(
        part if part.isascii() else _alike(part)
        for part in unicodedata.normalize("NFKD", character)
        if unicodedata.category(part) not in ("Mn", "Me")
    )


def _alike(part: str) -> str:
    folded = unicodedata.normalize("NFKD", part.casefold())
    return "".join(LOOKS_LIKE.get(ord(each), each) for each in folded if unicodedata.category(each) not in ("Mn", "Me"))
