"""Masks: replacements, counts, settings, the rule for whole documents, time on adversarial text."""

import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.filters.base import Doc
from arriero.data.pii import PiiEditor, PiiFilter, PiiSettings, count_kinds, find
from arriero.data.records import apply_edits

TEXT = (
    "Ann (ann.lee@mail.org, +44 20 7946 0958) from 81.2.69.142 paid 4111 1111 1111 1111 to "
    "DE89 3704 0044 0532 0130 00; SSN 536-90-4399."
)


def masked(text: str, **settings: object) -> str:
    return apply_edits(text, PiiEditor(PiiSettings(**settings)).edits(text, {}))  # type: ignore[arg-type]


def test_tags() -> None:
    assert masked(TEXT) == "Ann (<EMAIL>, <PHONE>) from <IP> paid <CARD> to <IBAN>; SSN <ID>."


def test_examples_have_no_owner_and_stay() -> None:
    once = masked(TEXT, style="example")
    assert "email@example.com" in once and "192.0.2.1" in once and "81.2.6" not in once and "4111" not in once
    assert masked(once, style="example") == once
    assert masked(masked(TEXT)) == masked(TEXT)


PHONES = (
    "555-123-4567|(555) 123-4567|555.123.4567|+1 555 123 4567|+1-555-123-4567|1-800-555-0199|123-456-7890|+12025550143|"
    "206.269.0743x9150|415-555-0132 ext. 12|+44 20 7946 0958|+86 138 0013 8000|+91 98765 43210|020 7946 0958|"
    "+49 (0)30 901820|01 23 45 67 89|(0161) 4960066|036-62 58 51 22|06 12 34 56 78|07911123456"
)


@pytest.mark.parametrize("phone", PHONES.split("|"))
def test_phones(phone: str) -> None:
    assert masked(f"and Miller {phone} or so") == "and Miller <PHONE> or so"


def test_kinds_and_counts() -> None:
    edits = PiiEditor(PiiSettings()).edits(TEXT + " bob@web.de", {})
    assert count_kinds(edits) == {"email": 2, "phone": 1, "ip": 1, "card": 1, "iban": 1, "national_id": 1}
    assert all(edit.reason.startswith("pii.") and "@" not in edit.replacement for edit in edits)
    assert masked(TEXT, kinds=["email"]) == TEXT.replace("ann.lee@mail.org", "<EMAIL>")
    assert masked(TEXT, kinds=[]) == TEXT


@pytest.mark.parametrize(
    ("text", "public", "every"),
    [
        ("at 10.0.0.1 now", "at 10.0.0.1 now", "at <IP> now"),
        ("at ::1 now", "at ::1 now", "at <IP> now"),
        ("at 8.8.8.8, now", "at <IP>, now", "at <IP>, now"),
        ("at 2606:4700:4700::1111 now", "at <IP> now", "at <IP> now"),
        ("at 999.8.8.8 now", "at 999.8.8.8 now", "at 999.8.8.8 now"),
        ("version 8.8.8.8", "version 8.8.8.8", "version 8.8.8.8"),
        ("\n12.1.1.2. Setup", "\n12.1.1.2. Setup", "\n12.1.1.2. Setup"),
        ("std::vector a::b::c 12:30:45", "std::vector a::b::c 12:30:45", "std::vector a::b::c 12:30:45"),
    ],
)
def test_addresses(text: str, public: str, every: str) -> None:
    assert masked(text) == public
    assert masked(text, private_ips=True) == every


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "xoxb-123456789012-abcdefGHIJ", "AIza" + "Sy_1" * 8 + "abc",
        "sk_live_" + "4eC39HqLyjWDarjtT1zd", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX\n-----END RSA PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_secrets_are_for_code(secret: str) -> None:
    text = f'x = "{secret}"'
    assert masked(text) == text
    assert masked(text, kinds=["secret"]) == 'x = "<SECRET>"'


def test_secrets_by_name() -> None:
    assert masked('api_key = "q8Zr2LmX90TbV4"', kinds=["secret"]) == 'api_key = "<SECRET>"'
    for harmless in ('password = "password"', 'token = "next_token_value"', 'secret: "${SECRET_KEY_1}"'):
        assert masked(harmless, kinds=["secret"]) == harmless


def test_documents_with_much_personal_data() -> None:
    settings = PiiSettings(max_per_1000_words=50)
    text = "call 415-555-0132 or write to a@b.org now\n" * 4
    edits = PiiEditor(settings).edits(text, {})
    rule = PiiFilter(settings)
    columns = rule.measure(Doc("1", apply_edits(text, edits), edits=edits))
    verdict = rule.judge(columns)
    assert (
        verdict is not None
        and verdict.reason == "pii.max_per_1000_words"
        and verdict.value == columns["m_pii_per_1000_words"]
    )
    assert rule.judge_table(
        pa.table({"m_pii_per_1000_words": [columns["m_pii_per_1000_words"], 0.0, 50.0]})
    ).tolist() == [0, -1, -1]
    few = PiiFilter(PiiSettings(max_per_1000_words=50, min_found=9))
    assert few.judge(few.measure(Doc("1", text, edits=edits))) is None
    off = PiiFilter(PiiSettings())
    assert off.judge(columns) is None and off.judge_table(
        pa.table({"m_pii_per_1000_words": [1e9]})
    ).tolist() == [-1]


ALL = PiiSettings(kinds=["email", "phone", "ip", "card", "iban", "national_id", "secret"])


@given(st.text(alphabet="0123456789 -.()+/@:abcXYZGB\n", max_size=120))
def test_edits_are_in_order_and_apply(text: str) -> None:
    apply_edits(text, PiiEditor(ALL).edits(text, {}))


@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    apply_edits(text, PiiEditor(ALL).edits(text, {}))


@pytest.mark.parametrize(
    "piece",
    ["1", "1 ", "1   ", "@", "a@", "a.", "(1", "+1", "tel ", ":", "a:", "::1 ", "A", "GB12", "0.", "1.1.1.1 ", "0 1-2.3/4(5)6 ",
     "eyJaaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "api_key", 'api_key="', "sk-", "a [at] ", "030 ", "\xa0", "tel: 1234567 "],
)  # fmt: skip
def test_time_grows_with_length_only(piece: str) -> None:
    begin = time.process_time()
    find(piece * (100_000 // len(piece)) + "@", ALL)
    find("a@" + piece * (100_000 // len(piece)), ALL)
    assert time.process_time() - begin < 8, "what takes a second or less on a calm core"
