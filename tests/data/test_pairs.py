from __future__ import annotations

import json
from pathlib import Path

import pytest

from arriero.data.pairs import TextPair, read_pairs, split_pairs
from arriero.errors import ArrieroError


def test_pairs_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"en": f"s{i % 50}", "de": f"t{i}"}) + "\n" for i in range(200)))
    pairs = read_pairs(path, "en", "de")
    assert pairs[3] == TextPair("s3", "t3")
    train, held = split_pairs(pairs, 0.3, 0)
    assert sorted(train + held) == sorted(pairs)
    assert 20 < len(held) < 100
    assert not {pair.source for pair in train} & {pair.source for pair in held}
    for line, words in (
        ('{"en": "a", "dee": "b"}', "line 1: no field 'de' among en, dee.*did you mean"),
        ('{"en": "a", "de": 3}', "line 1: de should be a string, not int"),
        ("", "is empty"),
    ):
        path.write_text(line)
        with pytest.raises(ArrieroError, match=words):
            read_pairs(path, "en", "de")
