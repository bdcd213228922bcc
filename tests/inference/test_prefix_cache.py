from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool
from arriero.inference.prefix_cache import PrefixCache

SHAPE = CacheShape(n_layers=1, n_kv_heads=1, head_dim=1)


def cache_of(blocks: int, enabled: bool = True) -> PrefixCache:
    return PrefixCache(KVPool(SHAPE, blocks * BLOCK), enabled)


def text(letters: str) -> list[int]:
    """A block of equal tokens for each letter."""
    return [ord(letter) for letter in letters for _ in range(BLOCK)]


def compute(cache: PrefixCache, letters: str, salt: bytes = b"") -> list[int] | None:
    """What a sequence does: match, allocate the rest, insert. Gives its blocks, or None where there is no room."""
    ids = text(letters)
    blocks, node = cache.match([*ids, 0], salt)
    found = len(blocks)
    more = cache.allocate(len(letters) - found)
    if more is None:
        cache.release(blocks)
        return None
    blocks += more
    for i in range(found, len(letters)):
        node, blocks[i] = cache.insert(node, ids[i * BLOCK : (i + 1) * BLOCK], blocks[i])
    return blocks


def matched(cache: PrefixCache, letters: str, salt: bytes = b"") -> int:
    """How many blocks are found again."""
    blocks, _ = cache.match([*text(letters), 0], salt)
    cache.release(blocks)
    return len(blocks)


def test_a_prefix_is_found_as_far_as_it_goes() -> None:
    cache = cache_of(8)
    blocks = compute(cache, "abc")
    assert blocks is not None
    cache.release(blocks)
    again, _ = cache.match([*text("abx"), 0])
    assert again == blocks[:2]
    cache.release(again)
    assert matched(cache, "bc") == 0  # the same tokens elsewhere are something else
    assert matched(cache, "a") == 1
    assert len(cache.match(text("a"))[0]) == 0  # one token is left to run


def test_salts_keep_prefixes_apart() -> None:
    cache = cache_of(8)
    compute(cache, "ab", b"one")
    assert [matched(cache, "ab", salt) for salt in (b"", b"one", b"two")] == [0, 2, 0]


def test_the_longest_unused_leaves_first_and_a_leaf_before_its_parent() -> None:
    cache = cache_of(4)
    for letters in ("ab", "cd"):
        cache.release(compute(cache, letters) or [])
    assert matched(cache, "ab") == 2  # used again
    assert cache.allocate(1) is not None
    assert (matched(cache, "cd"), matched(cache, "ab")) == (1, 2)
    assert cache.allocate(2) is not None
    assert (matched(cache, "cd"), matched(cache, "ab")) == (0, 1)
    assert cache.available == 1


def test_a_block_computed_twice_is_kept_once() -> None:
    cache = cache_of(6)
    first, second = cache.allocate(2), cache.allocate(2)
    assert first is not None
    assert second is not None
    for blocks in (first, second):
        node = cache.root()
        for i in range(2):
            node, blocks[i] = cache.insert(node, text("ab")[i * BLOCK : (i + 1) * BLOCK], blocks[i])
    assert first == second
    assert cache.pool.free == 4
    cache.pool.check([cache.blocks, first, second])


def test_clearing_forgets_what_runs_too() -> None:
    cache = cache_of(6)
    blocks = compute(cache, "ab") or []
    node = cache.root()
    cache.clear()
    assert matched(cache, "ab") == 0
    more = cache.allocate(1) or []
    cache.insert(node, text("a"), more[0])  # a sequence that began before
    assert matched(cache, "a") == 0
    cache.release(blocks)
    cache.release(more)
    assert cache.available == 6


def test_without_the_cache_nothing_is_kept() -> None:
    cache = cache_of(4, enabled=False)
    cache.release(compute(cache, "ab") or [])
    assert matched(cache, "ab") == 0
    assert cache.pool.free == 4


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(
        st.tuples(
            st.sampled_from(["compute", "release", "take", "clear"]), st.text("ab", min_size=1, max_size=4)
        ),
        max_size=50,
    ),
)
def test_books_stay_right_whatever_comes(blocks: int, actions: list[tuple[str, str]]) -> None:
    """What is found is exactly a prefix that was computed and has not left since; nothing leaks."""
    cache = cache_of(blocks)
    owners: list[list[int]] = []
    known: dict[str, int] = {}  # every prefix that may be there, and its block
    for action, letters in actions:
        in_use = {b for owned in owners for b in owned}
        assert cache.in_use == len(in_use)
        assert cache.available == blocks - len(in_use)
        if action == "compute":
            again, _ = cache.match([*text(letters), 0])
            assert again == [known[letters[: i + 1]] for i in range(len(again))]
            cache.release(again)
            held = in_use | set(again)
            found = compute(cache, letters)
            assert (found is None) == (len(letters) - len(again) > blocks - len(held))
            if found is not None:
                known |= {letters[: i + 1]: block for i, block in enumerate(found)}
                owners.append(found)
        elif action == "release" and owners:
            cache.release(owners.pop(len(letters) % len(owners)))
        elif action == "take":
            taken = cache.allocate(len(letters))
            assert (taken is None) == (len(letters) > blocks - len(in_use))
            owners += [taken] if taken is not None else []
        elif action == "clear":
            cache.clear()
            known.clear()
        cache.pool.check([cache.blocks, *owners])
    for owned in owners:
        cache.release(owned)
    assert cache.available == blocks
    assert cache.in_use == 0
