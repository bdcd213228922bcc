"""Looking up hashes near where they should be finds what a search of all finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.filters import hash_list
from arriero.data.filters.hash_list import HashList, hash_of

_HASH = st.integers(0, (1 << 64) - 1) | st.integers(0, 50) | st.integers((1 << 64) - 50, (1 << 64) - 1)


@given(st.sets(_HASH, max_size=200), st.lists(_HASH, max_size=20), st.integers(1, 5))
def test_every_hash_is_found_however_uneven_they_are(have: set[int], others: list[int], near: int) -> None:
    found = HashList(np.array(sorted(have), np.uint64))
    old, hash_list._NEAR = hash_list._NEAR, near
    try:
        assert all(found._has(each) for each in have)
        assert [found._has(each) for each in others] == [each in have for each in others]
    finally:
        hash_list._NEAR = old


def test_the_first_key_that_is_there() -> None:
    keys = [f"d:site{i}.example" for i in range(20_000)]
    found = HashList.of(keys)
    assert len(found) == 20_000
    assert all(found.first_of(["d:nowhere", key]) == 1 for key in keys[::97])
    assert found.first_of(["d:nowhere"]) == found.first_of([]) == HashList.of([]).first_of(["d:x"]) == -1
    assert hash_of("d:nowhere") not in {hash_of(key) for key in keys}
