"""Sentences with planted personal data, and sentences whose numbers are none; seeded."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from arriero.data.pii import checksums

FIRST = [
    "anna",
    "bob",
    "chen",
    "dmitri",
    "emma",
    "farid",
    "george",
    "hanna",
    "igor",
    "jose",
    "kim",
    "li",
    "maria",
    "nina",
    "omar",
    "petra",
    "raj",
    "sven",
    "tara",
    "yuki",
]
LAST = [
    "smith",
    "mueller",
    "garcia",
    "ivanov",
    "tanaka",
    "rossi",
    "dupont",
    "silva",
    "kowalski",
    "singh",
    "nguyen",
    "berg",
    "okafor",
    "haddad",
    "novak",
]
WORDS = [
    "the",
    "meeting",
    "on",
    "market",
    "river",
    "garden",
    "science",
    "report",
    "winter",
    "paper",
    "window",
    "people",
    "city",
    "road",
    "music",
    "language",
]
DOMAINS = [
    "gmail.com",
    "yahoo.co.uk",
    "web.de",
    "mail.ru",
    "univ-paris1.fr",
    "cs.stanford.edu",
    "acme-corp.io",
    "posta.it",
    "qq.com",
]


def _digits(r: random.Random, count: int) -> str:
    return "".join(r.choice(string.digits) for _ in range(count))


def _until(r: random.Random, make: Callable[[], str], check: Callable[[str], bool]) -> str:
    while not check(found := make()):
        pass
    return found


def email(r: random.Random) -> str:
    first, last, domain = r.choice(FIRST), r.choice(LAST), r.choice(DOMAINS)
    shapes = [
        f"{first}.{last}@{domain}",
        f"{first}{r.randint(1, 99)}@{domain}",
        f"{first}_{last}+news@{domain}",
    ]
    shapes += [
        f"{first[0]}{last}@{domain}".upper(),
        f"{first} [at] {last}.com",
        f"{first}-{last}@mail.{domain}",
    ]
    return r.choice(shapes)


def phone(r: random.Random) -> str:
    area, office, line = f"{r.randint(212, 989)}", f"{r.randint(22, 89)}{r.randint(2, 9)}", _digits(r, 4)
    pairs = " ".join(_digits(r, 2) for _ in range(4))
    shapes = [
        f"({area}) {office}-{line}", f"{area}-{office}-{line}", f"{area}.{office}.{line}", f"+1 {area} {office} {line}",
        f"1-{area}-{office}-{line}", f"+1{area}{office}{line}", f"+44 20 7{_digits(r, 3)} {line}", f"020 7{_digits(r, 3)} {line}",
        f"+44 (0)20 7{_digits(r, 3)} {line}", f"0{r.randint(1, 9)} {pairs}", f"+33 {r.randint(1, 9)} {pairs}",
        f"+49 30 {_digits(r, 7)}", f"030/{r.randint(1, 9)}{_digits(r, 6)}", f"+49-89-{_digits(r, 6)}-{r.randint(0, 9)}",
        f"+86 138 {_digits(r, 4)} {line}", f"+91 98{_digits(r, 3)} {_digits(r, 5)}", f"03-{r.randint(3, 6)}{_digits(r, 3)}-{line}",
        f"(11) 9{_digits(r, 4)}-{line}", f"+7 (495) {_digits(r, 3)}-{_digits(r, 2)}-{_digits(r, 2)}",
        f"8 (916) {_digits(r, 3)}-{_digits(r, 2)}-{_digits(r, 2)}", f"+34 6{_digits(r, 2)} {_digits(r, 3)} {_digits(r, 3)}",
        f"Tel. {_digits(r, 3)} {line}", f"phone: {r.randint(2, 9)}{_digits(r, 7)}", f"010-{r.randint(1, 9)}{_digits(r, 7)}",
    ]  # fmt: skip
    return r.choice(shapes)


def ip(r: random.Random) -> str:
    if r.random() < 0.2:
        return "2a01:" + ":".join(f"{r.randint(0x1000, 0xFFFF):x}" for _ in range(7))
    return f"{r.choice((8, 23, 52, 81, 93, 142, 185))}.{r.randint(0, 255)}.{r.randint(0, 255)}.{r.randint(1, 254)}"


def card(r: random.Random) -> str:
    start = r.choice(("4", "51", "55", "2221", "37", "6011"))
    length = 15 if start == "37" else 16
    number = _until(r, lambda: start + _digits(r, length - len(start)), checksums.luhn)
    mark = r.choice(("", " ", "-"))
    if length == 15:
        return mark.join((number[:4], number[4:10], number[10:]))
    return mark.join(number[place : place + 4] for place in range(0, 16, 4))


def iban(r: random.Random) -> str:
    country, bank = r.choice((("DE", 18), ("FR", 23), ("ES", 20), ("GB", 18), ("NL", 14), ("IT", 23)))
    body = _digits(r, bank)
    if country in ("GB", "NL"):
        body = "".join(r.choice(string.ascii_uppercase) for _ in range(4)) + body[4:]
    if country == "IT":
        body = r.choice(string.ascii_uppercase) + body[1:]
    found = next(f"{country}{n:02d}{body}" for n in range(2, 99) if checksums.iban(f"{country}{n:02d}{body}"))
    return " ".join(found[p : p + 4] for p in range(0, len(found), 4)) if r.random() < 0.5 else found


def _nir(r: random.Random) -> str:
    number = f"{r.randint(1, 2)}{_digits(r, 2)}{r.randint(1, 12):02d}{r.randint(1, 95):02d}{_digits(r, 6)}"
    full = f"{number}{97 - int(number) % 97:02d}"
    parts = (full[0], full[1:3], full[3:5], full[5:7], full[7:10], full[10:13], full[13:])
    return " ".join(parts) if r.random() < 0.5 else full


def _tax_id(r: random.Random) -> str:
    number = _until(
        r,
        lambda: "".join(r.sample("123456789", 9)) + r.choice("123456789") + _digits(r, 1),
        checksums.german_tax_id,
    )
    return (
        f"{number[:2]} {number[2:5]} {number[5:8]} {number[8:]}"
        if r.random() < 0.5
        else f"Steuer-ID: {number}"
    )


def national_id(r: random.Random) -> str:
    number = f"{r.randint(10**7, 10**8 - 1)}"
    nie = f"{r.choice('XYZ')}{_digits(r, 7)}"
    resident = f"{r.randint(110000, 659999)}{r.randint(1940, 2010)}{r.randint(1, 12):02d}{r.randint(1, 28):02d}{_digits(r, 3)}"
    cpf = _until(r, lambda: _digits(r, 11), checksums.cpf)
    aadhaar = _until(r, lambda: str(r.randint(2, 9)) + _digits(r, 11), checksums.verhoeff)
    shapes = [
        f"{r.randint(1, 665):03d}-{r.randint(1, 99):02d}-{r.randint(1, 9999):04d}",
        next(resident + c for c in "0123456789X" if checksums.chinese_id(resident + c)),
        f"AB {' '.join(_digits(r, 2) for _ in range(3))} C", f"JG{_digits(r, 6)}D",
        number + next(c for c in "TRWAGMYFPDXBNJZSQVHLCKE" if checksums.dni(number, c)),
        nie + next(c for c in "TRWAGMYFPDXBNJZSQVHLCKE" if checksums.dni(nie.translate(str.maketrans("XYZ", "012")), c)),
        _nir(r), _tax_id(r), f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}", f"CPF {cpf}",
        f"{aadhaar[:4]} {aadhaar[4:8]} {aadhaar[8:]}",
    ]  # fmt: skip
    return r.choice(shapes)


PLANTS: dict[str, Callable[[random.Random], str]] = {
    "email": email, "phone": phone, "ip": ip, "card": card, "iban": iban, "national_id": national_id,
}  # fmt: skip


def negative(r: random.Random) -> str:
    """Something that only looks like personal data."""
    year, month, day = r.randint(1900, 2030), r.randint(1, 12), r.randint(1, 28)
    shapes = [
        f"version {r.randint(1, 20)}.{r.randint(0, 30)}.{r.randint(0, 99)}.{r.randint(0, 999)}", f"v{r.randint(1, 9)}.{r.randint(0, 9)}.{r.randint(0, 9)}",
        f"{year}-{month:02d}-{day:02d}", f"{day:02d}.{month:02d}.{year}", f"{month:02d}/{day:02d}/{year}", f"{day:02d}-{month:02d}-{year}",
        f"{year}-{month:02d}-{day:02d} 12:{day:02d}:07", f"{year}{month:02d}{day:02d}T120000Z", f"{year}-{year % 100 + 1:02d}",
        f"ISBN 978-{r.randint(0, 9)}-{_digits(r, 3)}-{_digits(r, 5)}-{r.randint(0, 9)}", f"ISBN {_digits(r, 10)}", f"ISSN {_digits(r, 4)}-{_digits(r, 4)}",
        f"doi:10.{_digits(r, 4)}/{_digits(r, 7)}", f"arXiv:{_digits(r, 4)}.{_digits(r, 5)}", f"{r.getrandbits(128):032x}", f"{r.getrandbits(160):040x}",
        f"{r.randint(1, 999)},{_digits(r, 3)},{_digits(r, 3)}", f"{r.randint(1, 999)}.{_digits(r, 3)}.{_digits(r, 3)},{_digits(r, 2)}",
        f"{r.random():.12f}", f"3.14159265{_digits(r, 8)}", f"${r.randint(1, 999)},{_digits(r, 3)}.{_digits(r, 2)}", f"1.{_digits(r, 6)}e-{_digits(r, 2)}",
        " ".join(f"{r.randint(0, 9999)}" for _ in range(8)), " ".join(f"{r.random() * 100:.2f}" for _ in range(8)), "\t".join(f"{r.randint(100, 999)}" for _ in range(9)),
        f"{r.randint(1, 400)}-{r.randint(401, 900)}", f"pp. {r.randint(100, 400)}–{r.randint(401, 900)}", f"{r.randint(1, 22)}:{r.randint(1, 59):02d}:{r.randint(1, 59):02d}",
        f"std::vector<int>::iterator a{_digits(r, 1)}", f"ratio {r.randint(1, 9)}:{r.randint(1, 9)}:{r.randint(1, 9)}", f"{r.randint(1500000000, 1800000000)}",
        f"{r.randint(1500000000000, 1800000000000)}", f"@{r.choice(FIRST)}", f"{r.choice(WORDS)}@2x.png", f"git@github.com:{r.choice(LAST)}/x.git", f"numpy@1.{r.randint(1, 30)}.{r.randint(0, 9)}",
        "127.0.0.1", "192.168.1.17", f"section {r.randint(1, 9)}.{r.randint(1, 9)}.{r.randint(1, 9)}.{r.randint(1, 9)}", f"{r.getrandbits(32):08x}-{r.getrandbits(16):04x}-4{r.getrandbits(12):03x}-a{r.getrandbits(12):03x}-{r.getrandbits(48):012x}",
        f"https://site.org/item/{_digits(r, 10)}?id={_digits(r, 11)}", f"order {_digits(r, 10)}", f"RFC {_digits(r, 4)}", f"{r.randint(-90, 90)}.{_digits(r, 6)}, {r.randint(100, 180)}.{_digits(r, 6)}",
        f"{r.randint(1, 9)} {_digits(r, 3)} {_digits(r, 3)}", f"52{_digits(r, 14)}0000000", f"{year - 3} {year - 2} {year - 1} {year}", f"AB{_digits(r, 6)}Z", f"#{_digits(r, 7)}", "0.0.0.0",
    ]  # fmt: skip
    return r.choice(shapes)


def sentence(r: random.Random, inside: str) -> tuple[str, int]:
    """A sentence around ``inside``, and the place where that begins."""
    before = " ".join(r.choice(WORDS) for _ in range(r.randint(2, 7))) + r.choice((" ", " (", ": ", ", "))
    after = (
        r.choice((". ", " ", ", ", ") ", "\n", "; "))
        + " ".join(r.choice(WORDS) for _ in range(r.randint(2, 7)))
        + ".\n"
    )
    return before + inside + after, len(before)
