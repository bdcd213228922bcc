from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.conversations import Preference, read_conversations, read_preferences, split_holdout
from arriero.errors import ArrieroError


def rows(tmp_path: Path, *records: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


SYSTEM = {"role": "system", "content": "Be brief."}


def test_all_layouts_of_conversations(tmp_path: Path) -> None:
    path = rows(
        tmp_path,
        {"messages": [SYSTEM, user("a"), assistant("b")], "id": 3},
        {"prompt": "a", "response": "b"},
        {"prompt": [SYSTEM, user("a")], "completion": [assistant("b")]},
        {"instruction": "a", "input": "x", "output": "b", "system": "Be brief."},
        {"instruction": "a", "input": "", "output": "b"},
    )
    assert read_conversations(path) == [
        [SYSTEM, user("a"), assistant("b")],
        [user("a"), assistant("b")],
        [SYSTEM, user("a"), assistant("b")],
        [SYSTEM, user("a\n\nx"), assistant("b")],
        [user("a"), assistant("b")],
    ]


def test_all_layouts_of_preferences(tmp_path: Path) -> None:
    path = rows(
        tmp_path,
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [user("a"), assistant("c")]},
        {"instruction": "a", "input": "x", "chosen": "b", "rejected": "c", "output": "ignored"},
    )
    pair = Preference([user("a")], "b", "c")
    assert read_preferences(path) == [pair, pair, Preference([user("a\n\nx")], "b", "c")]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"question": "a"}, "line 1: no conversation in the keys question; expected: messages"),
        ({}, r"no conversation in the keys \(none\)"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "unknown role 'bot'"),
        ({"messages": [user("x")]}, "no answer"),
        ({"prompt": "a", "response": 3}, "response should be a string, not int"),
        ({"prompt": None, "response": "a"}, "prompt should be a string, not NoneType"),
        (
            {"prompt": "a", "response": [user("b")]},
            "response should end with a message of the role assistant",
        ),
        ({"prompt": "a", "response": [user("other"), assistant("b")]}, "repeats another prompt"),
    ],
)
def test_conversations_that_are_none(tmp_path: Path, record: Any, said: str) -> None:
    with pytest.raises(ArrieroError, match=said):
        read_conversations(rows(tmp_path, record))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "a", "chosen": "b"}, "no preference pair in the keys prompt, chosen"),
        (
            {"prompt": [user("a"), assistant("b")], "chosen": "b", "rejected": "c"},
            "the prompt ends with an answer",
        ),
        ({"prompt": "a", "chosen": None, "rejected": "c"}, "chosen should be a string"),
        ({"prompt": "a", "chosen": [user("z"), assistant("b")], "rejected": "c"}, "repeats another prompt"),
    ],
)
def test_preferences_that_are_none(tmp_path: Path, record: Any, said: str) -> None:
    with pytest.raises(ArrieroError, match=said):
        read_preferences(rows(tmp_path, record))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="is empty"):
        read_conversations(rows(tmp_path))
    with pytest.raises(ArrieroError, match="there is no file"):
        read_preferences(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "response": "b"}\n{')
    with pytest.raises(ArrieroError, match="line 2 is not valid JSON"):
        read_conversations(tmp_path / "bad.jsonl")


@given(st.lists(st.text(max_size=3), max_size=40), st.floats(0, 1), st.integers(0, 3))
def test_sft_and_dpo_hold_out_the_same_prompts(prompts: list[str], share: float, seed: int) -> None:
    talks = [[SYSTEM, user(prompt), assistant(str(n))] for n, prompt in enumerate(prompts)]
    pairs = [Preference([user(prompt)], str(n), "no") for n, prompt in enumerate(prompts)]
    train, held = split_holdout(talks, share, seed)
    assert sorted([*train, *held], key=str) == sorted(talks, key=str)
    assert not {t[1]["content"].strip() for t in train} & {t[1]["content"].strip() for t in held}
    train_pairs, held_pairs = split_holdout(pairs, share, seed)
    assert [p.chosen for p in train_pairs] == [t[2]["content"] for t in train]
    assert [p.chosen for p in held_pairs] == [t[2]["content"] for t in held]


def test_held_out_share_is_about_right() -> None:
    talks = [[user(str(n)), assistant("x")] for n in range(3000)]
    assert len(split_holdout(talks, 0.1, 0)[1]) == pytest.approx(300, abs=60)
    assert split_holdout(talks, 0.1, 0) != split_holdout(talks, 0.1, 1)
    assert split_holdout(talks, 0.0, 0) == (talks, [])
