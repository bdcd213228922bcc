"""Check digits of cards, accounts and identity numbers. All take strings of the right length and alphabet."""

from __future__ import annotations

_VERHOEFF_MULTIPLY = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_PERMUTE = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
IBAN_LENGTHS = dict(
    pair.split(":")
    for pair in [
        "AD:24",
        "AE:23",
        "AL:28",
        "AT:20",
        "AZ:28",
        "BA:20",
        "BE:16",
        "BG:22",
        "BH:22",
        "BR:29",
        "BY:28",
        "CH:21",
        "CR:22",
        "CY:28",
        "CZ:24",
        "DE:22",
        "DK:18",
        "DO:28",
        "EE:20",
        "EG:29",
        "ES:24",
        "FI:18",
        "FO:18",
        "FR:27",
        "GB:22",
        "GE:22",
        "GI:23",
        "GL:18",
        "GR:27",
        "GT:28",
        "HR:21",
        "HU:28",
        "IE:22",
        "IL:23",
        "IQ:23",
        "IS:26",
        "IT:27",
        "JO:30",
        "KW:30",
        "KZ:20",
        "LB:28",
        "LC:32",
        "LI:21",
        "LT:20",
        "LU:20",
        "LV:21",
        "LY:25",
        "MC:27",
        "MD:24",
        "ME:22",
        "MK:19",
        "MR:27",
        "MT:31",
        "MU:30",
        "NL:18",
        "NO:15",
        "PK:24",
        "PL:28",
        "PS:29",
        "PT:25",
        "QA:29",
        "RO:24",
        "RS:22",
        "SA:24",
        "SC:31",
        "SD:18",
        "SE:24",
        "SI:19",
        "SK:24",
        "SM:27",
        "ST:25",
        "SV:28",
        "TL:23",
        "TN:24",
        "TR:26",
        "UA:29",
        "VA:22",
        "VG:24",
        "XK:20",
    ]
)
"""Country to length (the IBAN registry of ISO 13616)."""


def luhn(digits: str) -> bool:
    """Cards (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def verhoeff(digits: str) -> bool:
    """Aadhaar (Verhoeff 1969)."""
    check = "0"
    for place, digit in enumerate(reversed(digits)):
        check = _VERHOEFF_MULTIPLY[int(check)][int(_VERHOEFF_PERMUTE[place % 8][int(digit)])]
    return check == "0"


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and 1 modulo 97."""
    if IBAN_LENGTHS.get(text[:2]) != str(len(text)):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def chinese_id(text: str) -> bool:
    """GB 11643: ISO 7064 modulo 11-2."""
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper()


def cpf(digits: str) -> bool:
    """Brazil's cadastro de pessoas físicas."""
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        total = sum(int(digit) * (length + 1 - place) for place, digit in enumerate(digits[:length]))
        if total * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def dni(number: str, letter: str) -> bool:
    """Spain's DNI; of a NIE, X, Y and Z are 0, 1 and 2."""
    return _DNI_LETTERS[int(number) % 23] == letter.upper()


def french_nir(text: str) -> bool:
    """13 characters (2A and 2B for Corsica) and their key of two digits."""
    number = text[:13].upper().replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(text[13:])


def german_tax_id(digits: str) -> bool:
    """ISO 7064 modulo 11, 10; of the first ten digits one stands there twice or three times."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if digits[0] == "0" or counts[-1] not in (2, 3) or (len(counts) > 1 and counts[-2] > 1):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def codice_fiscale(text: str) -> bool:
    """Italy: the last letter, modulo 26 (decree of 23 December 1976)."""
    odd = "BAKPLCQDREVOSFTGUHMINJWZYX"
    total = 0
    for place, character in enumerate(text[:15].upper()):
        value = int(character) if character.isdigit() else ord(character) - 65
        total += value if place % 2 else odd.index(chr(65 + value))
    return chr(65 + total % 26) == text[15].upper()


def pesel(digits: str) -> bool:
    """Poland."""
    total = sum(int(digit) * int(weight) for digit, weight in zip(digits, "13791379131", strict=True))
    return total % 10 == 0 and 1 <= int(digits[2:4]) % 20 <= 12 and 1 <= int(digits[4:6]) <= 31


def bsn(digits: str) -> bool:
    """The Netherlands: the test of eleven."""
    total = sum(int(digit) * (9 - place) for place, digit in enumerate(digits[:8])) - int(digits[8])
    return total % 11 == 0 and set(digits) != {"0"}


def personnummer(digits: str) -> bool:
    """Sweden: ten digits."""
    return 1 <= int(digits[2:4]) <= 12 and 1 <= int(digits[4:6]) % 60 <= 31 and luhn(digits)
