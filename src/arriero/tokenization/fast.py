"""Encoding at tiktoken's speed, where its ids are proved to be those of the `tokenizers` library.

tiktoken (openai/tiktoken) knows no merges, only ranks: it joins the neighbours whose joint piece has the lowest rank.
That gives what a list of merges gives when three things hold, each of which is checked here:

1. Text is cut in the same places. The patterns are published ones (:mod:`arriero.tokenization.patterns`) that mean the
   same to both regular-expression engines; characters that the two engines' Unicode tables class differently are
   found by asking both, and a text that holds one is left to `tokenizers`.
2. Merging is the same. Take any piece t that tiktoken joins from x and y inside a text. Joins over t's edges would have
   used up one of its bytes, so the joins inside were those of t alone, and x and y are the two parts to which t alone
   comes down. If for every piece these two parts are a listed merge, and the merges have the order of the ranks, then
   every join of tiktoken is the merge that `tokenizers` makes, by induction over the steps. A piece that does not
   come down to two parts is never joined; it may be there only where whole words are looked up first (ignore_merges).
3. Nothing else happens to the text: no normaliser, no added token in it, no dropout.
"""

from __future__ import annotations

import heapq
import importlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from arriero.tokenization.byte_level import byte_of_character
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.tokenizer import Tokenizer

_NEVER = 1 << 62
_LONG_RUN = " " * 100_000
"""tiktoken's engine overflows its stack at runs of white space not much longer than that."""
_CLASS = re.compile(r"\\p\{\w+\}|\\s")
_LONG_TOKEN = 32
_ENDINGS = "(?i:[stremvld])"
"""The letters of 's, 't, 're, 've, 'm, 'll, 'd, which some patterns take in either case."""
_PLANES = (range(0x40000), range(0xE0000, 0xE1000))
"""Where Unicode assigns characters; in the others both engines know none."""
_CHECKED_CHARACTERS = 200_000


class UnequalError(Exception):
    """Why tiktoken cannot stand in for a tokenizer; for the record, not for the user to act on."""


class FastEncoder:
    """A byte-level BPE tokenizer's ids, by tiktoken.

    Raises:
        UnequalError: the ids could differ from the tokenizer's own; the reason in a line.
    """

    library = "tiktoken"

    def __init__(self, tokenizer: Tokenizer) -> None:
        definition = tokenizer.definition
        pattern = split_pattern(definition)
        ranks, ids = proved_ranks(definition)
        try:
            tiktoken = importlib.import_module("tiktoken")
        except ImportError:
            raise UnequalError("the package tiktoken is not installed (extra [data])") from None
        self._tokenizer = tokenizer
        self._ids = ids
        self._encoding = tiktoken.Encoding(
            "arriero", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
        )
        self._slow = _search_of(_added_tokens(definition), _differing(pattern))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As :meth:`arriero.tokenization.tokenizer.Tokenizer.encode_batch`."""
        found = [self._encode(text) for text in texts]
        if None in found:
            rest = iter(
                self._tokenizer.encode_batch([t for t, f in zip(texts, found, strict=True) if f is None])
            )
            return [next(rest) if ids is None else ids for ids in found]
        return found  # type: ignore[return-value]

    def _encode(self, text: str) -> list[int] | None:
        """Ids of a text; None for a text that is left to `tokenizers`."""
        if self._slow is not None and self._slow.search(text):
            return None
        if len(text) > len(_LONG_RUN) and _LONG_RUN in text:
            return None
        if not _is_unicode(text):
            return None  # it is refused there
        ids = self._ids
        try:
            ranks: list[int] = self._encoding.encode_ordinary(text)
            return ranks if ids is None else [ids[rank] for rank in ranks]
        except Exception:
            return None
        except BaseException as error:  # pyo3's PanicException is no Exception
            if type(error).__name__ != "PanicException":
                raise
            return None


class SlowEncoder:
    """The `tokenizers` library in batches."""

    library = "tokenizers"

    def __init__(self, tokenizer: Tokenizer, why: str = "") -> None:
        self.why = why
        """Why not tiktoken."""
        self.encode_batch = tokenizer.encode_batch


def make_encoder(tokenizer: Tokenizer, sample: Iterable[str] = ()) -> FastEncoder | SlowEncoder:
    """The fastest encoder whose ids are the tokenizer's.

    ``sample``: texts on which both are compared before the fast one is trusted, besides the proof; the first
    200,000 characters of them are read.
    """
    try:
        fast = FastEncoder(tokenizer)
    except UnequalError as error:
        return SlowEncoder(tokenizer, str(error))
    texts = list(_first(sample))
    if texts and fast.encode_batch(texts) != tokenizer.encode_batch(texts):
        return SlowEncoder(tokenizer, "its ids differ on this text")
    return fast


def _first(texts: Iterable[str]) -> Iterator[str]:
    left = _CHECKED_CHARACTERS
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


# ------------------------------------------------------------------------------------- 1. the same cuts


def split_pattern(definition: dict[str, Any]) -> str:
    """The one pattern that cuts text as the tokenizer does.

    Raises:
        UnequalError: it is cut in a way that is not known to be the same in tiktoken.
    """
    if definition.get("normalizer") is not None:
        raise UnequalError("it normalises text")
    steps = definition.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps]) if steps.get("type") == "Sequence" else [steps]
    *splits, last = steps
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        raise UnequalError("it is not byte-level, or puts a space before a text")
    patterns = []
    for split in splits:
        regex = split.get("pattern", {}).get("Regex")
        isolated = str(split.get("behavior", "")).lower() == "isolated"
        if split.get("type") != "Split" or regex is None or not isolated or split.get("invert"):
            raise UnequalError("text is cut by something else than a pattern")
        patterns.append(regex)
    if last.get("use_regex", True):
        patterns += SPLIT_PATTERNS["gpt2"]
    if len(patterns) == 1 and any(patterns == list(known) for known in SPLIT_PATTERNS.values()):
        return str(patterns[0])
    if patterns == list(SPLIT_PATTERNS["smollm"]):
        return _DIGITS_THEN_GPT2
    raise UnequalError("text is cut by a pattern that is none of the published ones")


_DIGITS_THEN_GPT2 = r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
"""SmolLM's two patterns in one: a digit is a piece and ends the text on both its sides, so that white space before it is
white space at the end."""


def _added_tokens(definition: dict[str, Any]) -> list[str]:
    """Tokens that are found in plain text before it is cut: those that are added and not special."""
    return [token["content"] for token in definition.get("added_tokens", []) if not token.get("special")]


def _search_of(words: Sequence[str], characters: Sequence[str]) -> re.Pattern[str] | None:
    """Finds any of the words or characters."""
    choices = [re.escape(word) for word in words if word]
    if characters:
        choices.append(f"[{''.join(re.escape(character) for character in characters)}]")
    return re.compile("|".join(choices)) if choices else None


def _differing(pattern: str) -> list[str]:
    """Characters that belong to a class of the pattern in one of the two engines and not in the other."""
    classes = set(_CLASS.findall(pattern)) | ({_ENDINGS} if "(?i:" in pattern else set())
    return sorted(set().union(*map(_differing_in, classes)))


@lru_cache(maxsize=32)
def _differing_in(name: str) -> frozenset[str]:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    tiktoken = importlib.import_module("tiktoken")
    characters = [chr(code) for plane in _PLANES for code in plane if not 0xD800 <= code < 0xE000]
    text = "".join(characters)
    single = {bytes([byte]): byte for byte in range(256)}
    # what the pattern does not match, tiktoken leaves out
    kept = tiktoken.Encoding("class", pat_str=name + "+", mergeable_ranks=single, special_tokens={})
    ours = set(bytes(kept.encode_ordinary(text)).decode())
    others = Split(Regex(name + "+"), behavior="removed")
    blocks = (text[start : start + 4096] for start in range(0, len(text), 4096))
    theirs = set(characters).difference(
        *(piece for block in blocks for piece, _ in others.pre_tokenize_str(block))
    )
    return frozenset(ours ^ theirs)


# ------------------------------------------------------------------------------------- 2. the same merges


def proved_ranks(definition: dict[str, Any]) -> tuple[dict[bytes, int], list[int] | None]:
    """Ranks for tiktoken, and the tokenizer's id of each rank; None where the ranks are the ids.

    Raises:
        UnequalError: it is no byte-level BPE, or a merge of it is not what ranks would do.
    """
    model = definition["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise UnequalError("it is no byte-level BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise UnequalError(f"its model has a {key}")
    ids = _ids_by_bytes(model["vocab"])
    if any(bytes([byte]) not in ids for byte in range(256)):
        raise UnequalError("its vocabulary lacks a byte")
    merges = _merges_by_bytes(model["merges"])
    order: dict[bytes, int] = {}
    for x, y in merges:
        if x + y in ids:
            order.setdefault(x + y, len(order))
    joined = len(order)
    if model.get("ignore_merges"):
        for token in sorted(ids, key=ids.__getitem__):
            if len(token) > 1:
                order.setdefault(token, len(order))
    _check_merges(order, joined, merges, bool(model.get("ignore_merges")))
    tokens = [bytes([byte]) for byte in range(256)] + list(order)
    by_id = [ids[token] for token in order]
    if all(x < y for x, y in itertools.pairwise(by_id)):
        return {
            token: ids[token] for token in tokens
        }, None  # a single byte is never joined, so its rank is free
    return {token: rank for rank, token in enumerate(tokens)}, [ids[token] for token in tokens]


def _check_merges(
    order: dict[bytes, int], joined: int, merges: dict[tuple[bytes, bytes], int], whole_words: bool
) -> None:
    """Every piece's own last join is a listed merge, in the order of the ranks."""
    last = -1
    for number, token in enumerate(order):
        parts = last_join(token, order)
        if parts is None:
            if not whole_words:
                raise UnequalError(f"its merges do not make {token!r} from its bytes")
        elif parts not in merges or number >= joined:
            raise UnequalError(
                f"ranks would make {token!r} from {parts[0]!r} and {parts[1]!r}, which is no merge"
            )
        elif merges[parts] <= last:
            raise UnequalError(f"the merge that makes {token!r} comes before that of an earlier token")
        else:
            last = merges[parts]


def last_join(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """The two parts to which a token's bytes come down by joining the neighbours of lowest rank; None when no two
    neighbours can be joined before that."""
    if len(token) > _LONG_TOKEN:
        return _last_join_of_long(token, ranks)
    parts = [token[i : i + 1] for i in range(len(token))]
    get = ranks.get
    while len(parts) > 2:
        pairs = [get(x + y, _NEVER) for x, y in itertools.pairwise(parts)]
        lowest = min(pairs)
        if lowest == _NEVER:
            return None
        at = pairs.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _last_join_of_long(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """The same with a heap of the pairs: tokens of long runs would take the time of their length squared."""
    length = len(token)
    ends = [*range(1, length + 1)]  # where the part ends that starts here
    starts = [*range(-1, length)]  # where the part starts that ends here
    heap: list[tuple[int, int, int, int]] = []

    def push(start: int, middle: int, end: int) -> None:
        rank = ranks.get(token[start:end])
        if rank is not None:
            heapq.heappush(heap, (rank, start, middle, end))

    for start in range(length - 1):
        push(start, start + 1, start + 2)
    parts = length
    while parts > 2 and heap:
        _, start, middle, end = heapq.heappop(heap)
        if ends[start] != middle or ends[middle] != end:
            continue  # one of the two is part of another by now
        ends[start], ends[middle], starts[end] = end, 0, start
        parts -= 1
        if start:
            push(starts[start], start, end)
        if end < length:
            push(start, end, ends[end])
    return (token[: ends[0]], token[ends[0] :]) if parts == 2 else None


def _ids_by_bytes(vocab: dict[str, int]) -> dict[bytes, int]:
    """Ids by the bytes of their pieces; pieces in other characters than the byte alphabet can't come out of text."""
    byte = byte_of_character()
    return {
        bytes(byte[character] for character in piece): id
        for piece, id in vocab.items()
        if piece and all(character in byte for character in piece)
    }


def _merges_by_bytes(merges: Sequence[Any]) -> dict[tuple[bytes, bytes], int]:
    """(left, right) -> place in the list, which holds pairs or, in older files, "left right"."""
    byte = byte_of_character()
    found: dict[tuple[bytes, bytes], int] = {}
    if any(
        character not in byte for merge in merges for part in merge for character in part.replace(" ", "")
    ):
        raise UnequalError("its merges are not in the byte alphabet")
    for number, merge in enumerate(merges):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        pair = bytes(byte[c] for c in left), bytes(byte[c] for c in right)
        if pair in found:
            raise UnequalError("a merge is listed twice")
        found[pair] = number
    return found


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except (UnicodeEncodeError, AttributeError):
        return False
    return True
