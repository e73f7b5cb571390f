"""Checks that a pattern cannot express: check digits, dates and reserved ranges of cards, accounts and identity numbers.

Identity numbers are python-stdnum's: it is imported with the first number that looks like one, and of it there ships what
the rules of a shield name. Cards and accounts are written out: much that is neither looks like one, and the check costs
nothing. A check takes what the pattern matched and says whether it is a valid number. A pattern matches as much as it can,
which may be more than the number, so it is asked from the longest to the shortest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Check = Callable[[str], bool]

_STDNUM = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_IBAN = {
    **dict.fromkeys(("no",), 15),
    **dict.fromkeys(("be",), 16),
    **dict.fromkeys(("dk", "fi", "nl", "fo", "gl"), 18),
    **dict.fromkeys(("mk", "si"), 19),
    **dict.fromkeys(("at", "ba", "ee", "kz", "lt", "lu", "xk"), 20),
    **dict.fromkeys(("ch", "cr", "hr", "li", "lv"), 21),
    **dict.fromkeys(("bg", "bh", "de", "gb", "ge", "ie", "me", "rs", "va"), 22),
    **dict.fromkeys(("ae", "gi", "il", "iq", "tl"), 23),
    **dict.fromkeys(("ad", "cz", "es", "md", "pk", "ro", "sa", "se", "sk", "tn", "vg"), 24),
    **dict.fromkeys(("pt", "st"), 25),
    **dict.fromkeys(("is", "tr"), 26),
    **dict.fromkeys(("fr", "gr", "it", "mc", "mr", "sm"), 27),
    **dict.fromkeys(("al", "az", "by", "cy", "do", "gt", "hu", "lb", "pl", "sv"), 28),
    **dict.fromkeys(("br", "eg", "ps", "qa", "ua"), 29),
    **dict.fromkeys(("jo", "kw", "mu"), 30),
    **dict.fromkeys(("mt", "sc"), 31),
}
"""Length of an account number by country, from the IBAN registry."""
_NO_NINO = frozenset(("bg", "gb", "kn", "nk", "nt", "tn", "zz"))
"""Prefixes that are never given out."""


def luhn(text: str) -> bool:
    """A payment card: 13 to 19 digits, ISO/IEC 7812 check digit, not all the same."""
    digits = _digits(text)
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [
        digit if place % 2 == 0 else (digit * 2 - 9 if digit > 4 else digit * 2) for place, digit in _back(digits)
    ]
    return sum(doubled) % 10 == 0


def iban(text: str) -> bool:
    """An account number: the country's length, and ISO 7064 mod 97-10 over all of it."""
    code = "".join(character for character in text if character.isalnum())
    if _IBAN.get(code[:2]) != len(code):
        return False
    return int("".join(str(int(character, 36)) for character in code[4:] + code[:4])) % 97 == 1


def gb_nino(text: str) -> bool:
    """A British national insurance number, which has no check digit: two letters that are given out as a prefix."""
    prefix = text[:2]
    return not set(prefix) & set("dfiquv") and prefix[1] != "o" and prefix not in _NO_NINO


def ipv4(text: str) -> bool:
    """An address that says where somebody is: four numbers up to 255, not this host, this network or all."""
    parts = [int(part) for part in text.split(".")]
    return len(parts) == 4 and max(parts) <= 255 and parts[0] not in (0, 127, 255)


OWN: Mapping[str, Check] = {check.__name__.replace("_", "-"): check for check in (luhn, iban, gb_nino, ipv4)}
"""Checks of our own by the name that a pack writes."""


def validator(name: str) -> Check:
    """The check of that name: one of ours, or the ``is_valid`` of a module of stdnum (``us.ssn``); LookupError for no other."""
    if name in OWN:
        return OWN[name]
    if not _STDNUM.fullmatch(name):
        raise LookupError(name)
    try:
        is_valid: Check = _stdnum(name).is_valid
    except (ImportError, AttributeError) as error:
        raise LookupError(name) from error

    def check(text: str) -> bool:
        written = text.upper()
        return is_valid(written) or is_valid("".join(filter(str.isalnum, written)))

    return check


def _stdnum(name: str) -> Any:
    """The module of stdnum. It imports pydoc to describe itself, which nothing here asks it to: pydoc is most of the cost, and
    the images of targets lack what pydoc needs, so an empty module stands in for it meanwhile."""
    from importlib import import_module
    from types import ModuleType

    stand_in = ModuleType("pydoc")
    used = sys.modules.setdefault("pydoc", stand_in) is stand_in
    try:
        return import_module(f"stdnum.{name}")
    finally:
        if used:
            sys.modules.pop("pydoc", None)


def valid_length(check: Check, text: str) -> int:
    """How many characters of ``text``, from the first and up to the end of a word, are valid; 0 when none are."""
    return next((end for end in _ends(text) if check(text[:end])), 0)


def _ends(text: str) -> Iterator[int]:
    for end in range(len(text), 0, -1):
        if text[end - 1].isalnum() and (end == len(text) or not text[end].isalnum()):
            yield end


def _digits(text: str) -> list[int]:
    return [int(character) for character in text if character in "0123456789"]


def _back(digits: list[int]) -> Iterator[tuple[int, int]]:
    return enumerate(reversed(digits))
