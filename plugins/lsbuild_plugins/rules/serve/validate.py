"""Checks that a pattern cannot express: check digits and reserved ranges of cards, accounts and identity numbers.

They are written out, since python-stdnum (whose verdicts the tests compare them with) is 4.2 MB and 0.1 CPU seconds to
import. Each takes what the pattern matched and says how many of its characters, from the first, are a valid number: a
pattern matches as much as it can, which may be more than the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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
_DNI = "trwagmyfpdxbnjzsqvhlcke"
_PESEL = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)


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


def us_ssn(text: str) -> bool:
    """A United States social security number: no reserved area, group or serial number."""
    area, group, serial = text[:3], text[4:6], text[7:11]
    return len(text) == 11 and area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def es_dni(text: str) -> bool:
    """A Spanish DNI or NIE: the letter is the number modulo 23."""
    code = "".join(character for character in text if character.isalnum())
    number = {"x": "0", "y": "1", "z": "2"}.get(code[:1], code[:1]) + code[1:-1]
    return len(code) == 9 and number.isdigit() and _DNI[int(number) % 23] == code[-1]


def fr_nir(text: str) -> bool:
    """A French social security number: 97 minus the number modulo 97; Corsica's departments 2A and 2B count 19 and 18."""
    code = "".join(character for character in text if character.isalnum()).replace("2a", "19").replace("2b", "18")
    return len(code) == 15 and code.isdigit() and 97 - int(code[:13]) % 97 == int(code[13:])


def de_idnr(text: str) -> bool:
    """A German tax number of a person: one digit twice or thrice among ten, ISO 7064 mod 11,10."""
    digits = _digits(text)
    often = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if len(digits) != 11 or digits[0] == 0 or often[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for digit in digits[:10]:
        product = (((digit + product) % 10 or 10) * 2) % 11
    return (11 - product) % 10 == digits[10]


def br_cpf(text: str) -> bool:
    """A Brazilian CPF: two check digits modulo 11."""
    digits = _digits(text)
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    for size in (9, 10):
        total = sum(digit * (size + 1 - place) for place, digit in enumerate(digits[:size]))
        if total * 10 % 11 % 10 != digits[size]:
            return False
    return True


def nl_bsn(text: str) -> bool:
    """A Dutch citizen service number: the eleven test."""
    digits = _digits(text)
    if len(digits) != 9 or not any(digits):
        return False
    return (sum(digit * (9 - place) for place, digit in enumerate(digits[:8])) - digits[8]) % 11 == 0


def pl_pesel(text: str) -> bool:
    """A Polish PESEL: a weighted sum modulo 10, and a month that exists."""
    digits = _digits(text)
    if len(digits) != 11 or not 1 <= (digits[2] * 10 + digits[3]) % 20 <= 12:
        return False
    return (sum(weight * digit for weight, digit in zip(_PESEL, digits, strict=False)) + digits[10]) % 10 == 0


def ipv4(text: str) -> bool:
    """An address that says where somebody is: four numbers up to 255, not this host, this network or all."""
    parts = [int(part) for part in text.split(".")]
    return len(parts) == 4 and max(parts) <= 255 and parts[0] not in (0, 127, 255)


VALIDATORS: Mapping[str, Callable[[str], bool]] = {
    check.__name__.replace("_", "-"): check
    for check in (luhn, iban, us_ssn, es_dni, fr_nir, de_idnr, br_cpf, nl_bsn, pl_pesel, ipv4)
}
"""By the name that a pack writes."""


def valid_length(check: Callable[[str], bool], text: str) -> int:
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
