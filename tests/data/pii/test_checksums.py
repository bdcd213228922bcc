"""Published examples of each number, and that a changed digit is noticed."""

from collections.abc import Callable

import pytest

from arriero.data.pii import checksums as c


@pytest.mark.parametrize(
    ("check", "valid"),
    [
        (c.luhn, "4111111111111111"),
        (c.luhn, "378282246310005"),
        (c.verhoeff, "2363"),
        (c.iban, "GB29NWBK60161331926819"),
        (c.iban, "DE89370400440532013000"),
        (c.iban, "FR1420041010050500013M02606"),
        (c.chinese_id, "11010519491231002X"),
        (c.chinese_id, "440524188001010014"),
        (c.cpf, "52998224725"),
        (c.french_nir, "255081416802538"),
        (c.german_tax_id, "86095742719"),
        (c.german_tax_id, "65929970489"),
    ],
)
def test_examples(check: Callable[[str], bool], valid: str) -> None:
    assert check(valid)
    for place, character in enumerate(valid):
        if character.isdigit() and place > 3:
            assert not check(f"{valid[:place]}{(int(character) + 1) % 10}{valid[place + 1 :]}"), place


def test_spanish() -> None:
    assert c.dni("12345678", "Z") and not c.dni("12345679", "Z")
    assert c.dni("01234567", "L") and c.dni("01234567", "l")


def test_repeated_digits_are_no_cpf() -> None:
    assert not c.cpf("11111111111")


def test_lengths_by_country() -> None:
    assert not c.iban("GB29NWBK6016133192681")
    assert c.IBAN_LENGTHS["NO"] == "15" and c.IBAN_LENGTHS["MT"] == "31"
