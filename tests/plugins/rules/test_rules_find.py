"""What rules find: numbers that python-stdnum checks, phrases in disguise, and all of it in linear time."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from rules_shields import general, shield, shipped

from lsbuild_plugins.rules.compile import pack
from lsbuild_plugins.rules.serve import validate
from lsbuild_runtime.http import Context


@pytest.mark.parametrize("text", ["a55 road", "the 455 bus", "at 5:17", "f1 car, sh 1 t", "B2B", "mp3 and h264"])
def test_numbers_are_no_leet(text: str) -> None:
    assert general().check(text, "input", Context()).findings == ()


def test_luhn_is_that_of_stdnum() -> None:
    from stdnum import luhn

    chance = random.Random(3)
    texts = ["".join(chance.choice("0123456789") for _ in range(16)) for _ in range(3000)]
    assert [validate.luhn(text) for text in texts] == [luhn.is_valid(text) for text in texts]
    assert not validate.luhn("0000000000000000")


def numbers() -> list[pack.PackRule]:
    return [rule for rule in shipped("pii")[0].rules if rule.country is not None]


def test_the_numbers_of_many_countries_are_checked_by_stdnum() -> None:
    assert len({rule.country for rule in numbers()}) >= 60
    for rule in numbers():
        assert rule.validator is not None
        if rule.validator not in validate.OWN:
            assert rule.validator.partition(".")[0].strip("_") == rule.country, (
                rule.id
            )  # `countries` chooses what ships


@pytest.mark.parametrize("rule", numbers(), ids=lambda rule: rule.id)
def test_no_text_that_fits_a_pattern_breaks_its_check(rule: pack.PackRule) -> None:
    assert rule.validator is not None
    check = validate.validator(rule.validator)
    chance = random.Random(rule.id)
    for example in (*rule.matches, *rule.passes):
        for _ in range(30):
            text = "".join(chance.choice("0123456789") if sign.isdigit() else sign for sign in example.lower())
            check(text)
            check("".join(filter(str.isalnum, text)))


WITHOUT_PYDOC = """
import sys

class Lacks:
    def find_spec(self, name, *_):
        if name in ("pydoc", "_pyrepl", "pydoc_data"):
            raise ImportError(name)

sys.meta_path.insert(0, Lacks())
from lsbuild_plugins.rules.serve.validate import validator
print(validator("us.ssn")("494-77-5287"), validator("cn.ric")("360426199101010071"), "pydoc" in sys.modules)
"""


def test_numbers_are_checked_where_python_has_no_help() -> None:
    """The images of targets leave out what pydoc needs, which stdnum imports."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYDOC], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]


def test_a_bare_number_is_found_by_the_word_before_it() -> None:
    def found(text: str) -> list[tuple[str, str]]:
        findings = shield("pii").check(text, "input", Context()).findings
        return [(each.rule, text[each.start : each.end]) for each in findings]

    assert found("641305998") == []
    assert found("Her SSN (number) is: 641305998, he said") == [("pii.us-ssn-bare", "SSN (number) is: 641305998")]
    assert found("the ssn of 641305998") == []
    assert found("un ssn 641305998") == [("pii.us-ssn-bare", "ssn 641305998")]
    assert found("Fødselsnummer: 01015012356") == []


def test_numbers_are_found_in_the_countries_that_are_chosen() -> None:
    text = "SSN 494-77-5287, Steuer-ID 36 574 261 809"
    for countries, wanted in ((None, 2), (["us"], 1), (["de", "us"], 2), (["fr"], 0), ([], 0)):
        assert len(shield("pii", countries=countries).check(text, "input", Context()).findings) == wanted


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
