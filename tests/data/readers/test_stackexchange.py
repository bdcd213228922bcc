"""Dumps of Stack Exchange: the order of answers on a real dump, any split, bad input, flat memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.readers.stackexchange import StackExchangeReader
from arriero.data.records import Limits, Record, Refused
from arriero.data.stackexchange import index as index_module
from arriero.data.stackexchange.index import index_of
from arriero.data.stackexchange.posts import Question
from arriero.data.stackexchange.sites import LARGEST_28, site_of
from arriero.errors import ArrieroError

DUMP = Path(__file__).parents[1] / "curation/stackexchange/coffee.stackexchange.com/Posts.xml"


def read(
    path: Path, cache: Path, split_bytes: int = 1 << 40, limits: Limits | None = None
) -> list[Record | Refused]:
    reader = StackExchangeReader(cache)
    found: list[Record | Refused] = []
    for start, end in reader.splits(path, split_bytes):
        found += reader.read(path, start, end, limits or Limits())
    return found


def questions(found: list[Record | Refused]) -> list[Question]:
    return [Question.from_json(item.content) for item in found if isinstance(item, Record)]


def test_the_order_is_right_on_every_question_of_a_real_dump(tmp_path: Path) -> None:
    posts = [row.attrib for row in ET.fromstring(DUMP.read_text("utf-8-sig"))]
    asked = {post["Id"]: post for post in posts if post["PostTypeId"] == "1"}
    sorted_as_strings_is_wrong = 0
    found = {str(one.id): one for one in questions(read(DUMP, tmp_path))}
    assert list(found) == list(asked)
    for number, post in asked.items():
        answers = [one for one in posts if one.get("ParentId") == number]
        accepted = post.get("AcceptedAnswerId")
        answers.sort(key=lambda one: (-int(one["Score"]), one["Id"] != accepted, int(one["Id"])))
        assert [str(one.id) for one in found[number].answers] == [one["Id"] for one in answers]
        assert [one.body for one in found[number].answers] == [one["Body"] for one in answers]
        assert (found[number].title, found[number].body) == (post["Title"], post["Body"])
        by_string = max(answers, key=lambda one: one["Score"])
        sorted_as_strings_is_wrong += by_string["Score"] != answers[0]["Score"]
    assert sorted_as_strings_is_wrong == 10


@pytest.mark.parametrize("split_bytes", [500, 7_777, 30_000])
def test_splits_give_the_same_records_in_the_same_order(tmp_path: Path, split_bytes: int) -> None:
    assert read(DUMP, tmp_path, split_bytes) == read(DUMP, tmp_path)


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_packed_dumps_read_the_same_but_for_the_place(tmp_path: Path, ending: str, pack: object) -> None:
    folder = tmp_path / "coffee.stackexchange.com"
    folder.mkdir()
    (folder / f"Posts.xml{ending}").write_bytes(pack(DUMP.read_bytes()))  # type: ignore[operator]
    packed, plain = read(folder, tmp_path), read(DUMP, tmp_path)
    assert questions(packed) == questions(plain)
    assert all(item.in_content for item in packed) and not any(item.in_content for item in plain)
    assert [(item.offset, item.length) for item in packed] == [(item.offset, item.length) for item in plain]


def test_a_record_tells_where_it_is_from(tmp_path: Path) -> None:
    raw = DUMP.read_bytes()
    for item in read(DUMP, tmp_path):
        assert raw[item.offset : item.offset + item.length].startswith(b"<row ")
        if isinstance(item, Record):
            assert item.url and item.url.startswith("https://coffee.stackexchange.com/questions/")
            assert item.license == "CC-BY-SA-3.0"
            assert item.meta["answer_scores"] == sorted(item.meta["answer_scores"], reverse=True)
        else:
            assert item.reason == "read.post_type"


def dump_of(rows: list[str]) -> str:
    return '<?xml version="1.0"?>\n<posts>\n' + "\n".join(rows) + "\n</posts>\n"


def test_answers_may_stand_before_their_question_and_in_any_quotes(tmp_path: Path) -> None:
    file = tmp_path / "Posts.xml"
    file.write_text(
        dump_of(
            [
                "<row Id='2' PostTypeId='2' ParentId='1' Score='9' Body='nine'/>",
                '<row Body="ten ParentId=&quot;7&quot;" Score="10" ParentId="1" PostTypeId="2" Id="3"/>',
                '<row Id="1" PostTypeId="1" Score="1" Title="t" Body="b"/>',
                '<row Id="5" PostTypeId="2" ParentId="4" Score="1" Body="lost"/>',
                '<row Id="6" PostTypeId="2" ParentId="1" Body="no score"/>',
                '<row Id="x" PostTypeId="1" Score="1"/>',
                '<row Id="8" PostTypeId="1" Title="&lol;"/>',
            ]
        )
    )
    found = read(file, tmp_path)
    (question,) = questions(found)
    assert [one.body for one in question.answers] == ['ten ParentId="7"', "nine"]
    assert question.problems == (
        "answer 6: an answer's Id and Score should be numbers, not Id '6', Score None",
    )
    reasons = [item.reason for item in found if isinstance(item, Refused)]
    assert reasons == ["read.orphan_answer", "read.malformed", "read.xml_entity"]


POSTS = st.lists(st.tuples(st.integers(1, 8), st.integers(-12, 12)), max_size=25)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(POSTS, st.integers(20, 400), st.randoms(use_true_random=False))
def test_any_mixture_of_posts_is_grouped_and_ordered(
    tmp_path_factory: pytest.TempPathFactory, posts: list[tuple[int, int]], split_bytes: int, random: object
) -> None:
    folder = tmp_path_factory.mktemp("dump")
    rows = [f'<row Id="{number}" PostTypeId="1" Score="0" Title="q" Body=""/>' for number in range(1, 9)]
    rows += [
        f'<row Id="{100 + at}" PostTypeId="2" ParentId="{parent}" Score="{score}" Body="a"/>'
        for at, (parent, score) in enumerate(posts)
    ]
    random.shuffle(rows)  # type: ignore[attr-defined]
    (folder / "Posts.xml").write_text(dump_of(rows))
    found = {one.id: one for one in questions(read(folder, folder, split_bytes))}
    assert len(found) == 8
    for number, question in found.items():
        want = sorted((-score, 100 + at) for at, (parent, score) in enumerate(posts) if parent == number)
        assert [(-one.score, one.id) for one in question.answers] == want


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "b">]><posts><row Id="1" PostTypeId="1"/></posts>', "read.xml_doctype"),
        (b"<users><row Id='1'/></users>", "read.not_posts"),
        (b"", "read.not_posts"),
        (b'<posts><row Id="1" PostTypeId="1" Title="x', "read.truncated"),
    ],
)
def test_bad_dumps_are_one_refusal(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "Posts.xml").write_bytes(content)
    found = [item.reason for item in read(tmp_path, tmp_path) if isinstance(item, Refused)]
    assert found == [reason]


def test_broken_and_explosive_compression(tmp_path: Path) -> None:
    file = tmp_path / "Posts.xml.gz"
    file.write_bytes(gzip.compress(DUMP.read_bytes())[:5000])
    (broken,) = read(file, tmp_path)
    assert isinstance(broken, Refused) and broken.reason == "read.damaged"
    file.write_bytes(gzip.compress(b"<posts>" + b" " * (80 << 20)))
    (bomb,) = read(file, tmp_path)
    assert isinstance(bomb, Refused) and bomb.reason == "read.expansion"


def test_a_7z_archive_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "coffee.stackexchange.com.7z"
    file.write_bytes(b"7z\xbc\xaf")
    with pytest.raises(ArrieroError, match="7z x coffee"):
        StackExchangeReader().splits(file, 1)
    (item,) = StackExchangeReader(tmp_path).read(file, 0, None, Limits())
    assert isinstance(item, Refused) and item.reason == "read.compression"


def test_limits_on_one_record(tmp_path: Path) -> None:
    big = '<row Id="1" PostTypeId="1" Score="0" Title="t" Body="b"/>'
    answer = '<row Id="{}" PostTypeId="2" ParentId="1" Score="0" Body="' + "x" * 100 + '"/>'
    (tmp_path / "Posts.xml").write_text(dump_of([big, *(answer.format(n) for n in range(2, 12))]))
    (item,) = read(tmp_path, tmp_path, limits=Limits(record_bytes=1000))
    assert isinstance(item, Refused) and item.reason == "read.record_bytes"


def test_only_wanted_sites(tmp_path: Path) -> None:
    (item,) = StackExchangeReader(tmp_path, sites="largest-28").read(DUMP, 0, None, Limits())
    assert isinstance(item, Refused) and item.reason == "read.site"
    wanted = StackExchangeReader(tmp_path, sites=["coffee.stackexchange.com"])
    assert any(isinstance(one, Record) for one in wanted.read(DUMP, 0, None, Limits()))
    with pytest.raises(ArrieroError, match="did you mean 'largest-28'"):
        StackExchangeReader(sites="largest28")  # type: ignore[arg-type]
    assert len(set(LARGEST_28)) == 28


@pytest.mark.parametrize(
    ("path", "site"),
    [
        ("coffee.stackexchange.com/Posts.xml", "coffee.stackexchange.com"),
        ("stackoverflow.com-Posts.xml", "stackoverflow.com"),
        ("ru.stackoverflow.com/Posts.xml.gz", "ru.stackoverflow.com"),
        ("dump/mathoverflow.net/Posts.xml", "mathoverflow.net"),
        ("stackexchange_coffee/Posts.xml", "coffee.stackexchange.com"),
        ("dump/Posts.xml", None),
    ],
)
def test_the_site_of_a_path(path: str, site: str | None) -> None:
    assert site_of(Path(path)) == site


def test_memory_does_not_grow_with_the_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_RUN", 100)

    def peak(count: int) -> int:
        file = tmp_path / f"{count}.xml"
        with file.open("w") as out:
            out.write("<posts>\n")
            for number in range(count):
                out.write(
                    f'<row Id="{2 * number + 1}" PostTypeId="1" Score="1" Title="t" Body="{"x" * 400}"/>\n'
                )
                out.write(
                    f'<row Id="{2 * number + 2}" PostTypeId="2" ParentId="{2 * number + 1}" Score="1" Body="y"/>\n'
                )
            out.write("</posts>\n")
        tracemalloc.start()
        total = sum(1 for _ in StackExchangeReader(tmp_path).read(file, 0, None, Limits()))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert total == count
        return most

    small, large = peak(800), peak(3200)
    assert large < 1.3 * small + (1 << 20)


def test_the_index_is_built_once_and_anew_when_the_dump_changes(tmp_path: Path) -> None:
    file = tmp_path / "Posts.xml"
    file.write_bytes(DUMP.read_bytes())
    for _ in range(2):
        index_of(file, 1 << 20, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    file.write_text(dump_of(['<row Id="1" PostTypeId="1" Score="1" Title="t" Body="b"/>']))
    assert len(index_of(file, 1 << 20, tmp_path / "cache").posts_of(1)) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_content_is_json_of_the_question(tmp_path: Path) -> None:
    first = next(item for item in read(DUMP, tmp_path) if isinstance(item, Record))
    assert {"id", "title", "body", "answers"} <= json.loads(first.content).keys()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12_000), st.binary(min_size=1, max_size=12)), max_size=6),
    st.integers(100, 12_000),
)
def test_damage_is_told_and_never_raised(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], length: int
) -> None:
    folder = tmp_path_factory.mktemp("dump")
    raw = bytearray(DUMP.read_bytes()[:length])
    for at, value in changes:
        raw[at % len(raw) : at % len(raw) + len(value)] = value
    (folder / "Posts.xml").write_bytes(raw)
    whole = read(folder, folder)
    assert read(folder, folder, 3000) == whole
    for item in whole:
        assert isinstance(item, Record) or item.reason.startswith("read.")


def test_double_quotes_in_a_value_in_single_quotes_say_nothing(tmp_path: Path) -> None:
    rows = [
        """<row Body=' Id="7" PostTypeId="2" ParentId="8" ' Id='1' PostTypeId='1' Score='2' Title='t'/>""",
        """<row Id = "2" PostTypeId = "2" ParentId = "1" Score = "3" Body = ' ParentId="9" '/>""",
    ]
    (tmp_path / "Posts.xml").write_text(dump_of(rows))
    (question,) = questions(read(tmp_path, tmp_path))
    assert (question.id, [one.id for one in question.answers]) == (1, [2])
