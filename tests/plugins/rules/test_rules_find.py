"""What rules find: numbers as python-stdnum checks them, phrases in disguise, and all of it in linear time."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable

import pytest
from rules_shields import general

from lsbuild_plugins.rules.serve import validate
from lsbuild_runtime.http import Context


@pytest.mark.parametrize("text", ["a55 road", "the 455 bus", "at 5:17", "f1 car, sh 1 t", "B2B", "mp3 and h264"])
def test_numbers_are_no_leet(text: str) -> None:
    assert general().check(text, "input", Context()).findings == ()


@pytest.mark.parametrize(
    ("name", "module", "form"),
    [
        ("luhn", "luhn", "################"),
        ("es-dni", "es.dni", "########@"),
        ("de-idnr", "de.idnr", "###########"),
        ("br-cpf", "br.cpf", "###########"),
        ("nl-bsn", "nl.bsn", "#########"),
        ("pl-pesel", "pl.pesel", "###########"),
    ],
)
def test_check_digits_are_those_of_stdnum(name: str, module: str, form: str) -> None:
    other = importlib.import_module(f"stdnum.{module}")
    ours: Callable[[str], bool] = validate.VALIDATORS[name]
    chance = random.Random(name)
    agreed = 0
    for _ in range(6000):
        text = "".join(
            chance.choice("0123456789") if sign == "#" else chance.choice("abcdefghjklmnpqrstvwxyz") for sign in form
        )
        if len(set(text)) == 1:
            continue
        if ours(text):
            # A PESEL also holds a day, which stdnum checks and we do not.
            assert other.is_valid(text.upper()) or name == "pl-pesel", text
            agreed += 1
        else:
            assert not other.is_valid(text.upper()), text
    assert agreed >= 5


def test_ibans_are_those_of_stdnum() -> None:
    from stdnum import iban

    known = ["DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NL91ABNA0417164300"]
    known += ["CH9300762011623852957", "ES9121000418450200051332", "NO9386011117947", "MT84MALT011000012345MTLCAST001S"]
    for number in known:
        assert iban.is_valid(number)
        assert validate.iban(number.lower()), number
        for place in range(2, len(number)):
            changed = number[:place] + ("1" if number[place] != "1" else "2") + number[place + 1 :]
            assert validate.iban(changed.lower()) == iban.is_valid(changed, check_country=False), changed


def test_a_number_followed_by_digits_is_found_all_the_same() -> None:
    assert validate.valid_length(validate.luhn, "4111 1111 1111 1111 123") == 19
    assert validate.valid_length(validate.luhn, "4111 1111 1111 1112") == 0
