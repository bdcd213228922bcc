"""All counters of a text."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.fallback import flags as f
from arriero.data.facts.fallback import line_rules as of_lines
from arriero.data.facts.fallback.characters import count_characters
from arriero.data.facts.fallback.normal import normalise, signature
from arriero.data.facts.fallback.repetition import count_ngrams, count_pieces
from arriero.data.facts.fallback.words import count_line, token_figures
from arriero.data.facts.figures import COUNTERS
from arriero.data.facts.settings import FactsSettings


def measure(data: bytes, settings: FactsSettings) -> tuple[list[int], NDArray[np.uint32], bytes]:
    """Counters in the order of ``COUNTERS``, signature, digest: what ``TextKernel.measure`` gives."""
    text = data.decode()
    found = Counter({"bytes": len(data), "lorem_ipsum": of_lines.lower_ascii(text).count("lorem ipsum")})
    found.update(count_characters(text))
    words = _count_lines(text, settings, found)
    _count_stretches(text, found)
    found.update(count_pieces(text))
    found.update(_count_words([word for word, _ in words], settings))
    found["unspaced_words"] = sum(unspaced for _, unspaced in words)
    found.update(count_ngrams([word for word, _ in words]))
    digest = hashlib.blake2b(normalise(data), digest_size=16).digest()
    return [int(found[name]) for name in COUNTERS], signature(data, settings), digest


def _count_lines(text: str, settings: FactsSettings, found: Counter[str]) -> list[tuple[str, bool]]:
    """Count the lines that ``str.splitlines`` cuts; give all words."""
    words: list[tuple[str, bool]] = []
    for line in f.split_lines(text):
        bare = f.strip(line)
        counts = count_line(bare, settings.words == "space")
        flags, sentences = of_lines.judge(bare, counts)
        words += counts.words
        found["lines"] += 1
        found["sentences"] += counts.sentences
        own = of_lines.ends(bare) | of_lines.phrases(bare)
        for name, flag in _LINE_FLAGS:
            found[name] += bool(own & flag)
        for token in counts.tokens:
            figures = token_figures(token)
            found["tokens"] += 1
            found["token_characters"] += len(token)
            found["longest_token"] = max(found["longest_token"], len(token))
            found["upper_tokens"] += 1 < figures.letters == figures.upper
            found["urls"] += figures.url
            found["url_characters"] += len(token) * figures.url
        _count_c4(flags, len(counts.tokens), sentences, found)
    return words


_LINE_FLAGS = (
    ("bullet_lines", of_lines.BULLET), ("ellipsis_lines", of_lines.ELLIPSIS),
    ("javascript_lines", of_lines.JAVASCRIPT), ("policy_lines", of_lines.POLICY),
)  # fmt: skip


def _count_c4(flags: int, tokens: int, sentences: int, found: Counter[str]) -> None:
    """What C4's rules say, in their order, with the rule about end marks and without it."""
    if flags & of_lines.LONG_WORD or tokens < 3:
        return
    for prefix, kept in (("c4_open", of_lines.C4_OPEN), ("c4", of_lines.C4)):
        if prefix == "c4" and not flags & of_lines.END_MARK:
            return
        found[f"{prefix}_lorem_lines"] += bool(flags & of_lines.LOREM)
        found[f"{prefix}_curly_lines"] += flags & (of_lines.CURLY | of_lines.JAVASCRIPT) == of_lines.CURLY
        found[f"{prefix}_lines"] += bool(flags & kept)
        found[f"{prefix}_sentences"] += sentences if flags & kept else 0


def _count_stretches(text: str, found: Counter[str]) -> None:
    """Count what lies between line feeds."""
    for line in text.split("\n"):
        found["longest_line"] = max(found["longest_line"], len(line))
        found["long_lines"] += len(line) >= 200
        tokens = [token for token in f.white_space().split(line) if token]
        if not tokens:
            continue
        figures = [token_figures(token) for token in tokens]
        letters, upper = sum(each.letters for each in figures), sum(each.upper for each in figures)
        found["filled_lines"] += 1
        found["short_lines"] += len(line) <= 30
        found["terminal_lines"] += bool(of_lines.ends(line) & of_lines.TERMINAL)
        found["upper_lines"] += 2 * upper > letters
        found["numeric_lines"] += not letters and any(each.digits for each in figures)
        found["one_word_lines"] += len(tokens) == 1


@lru_cache(maxsize=1 << 16)
def _word_kinds(word: str) -> tuple[bool, bool]:
    """Whether a letter is in it, and whether something else than punctuation is."""
    flags = f.flag_list(word)
    return any(flag & f.ALPHA for flag in flags), not all(flag & f.MARK for flag in flags)


@lru_cache(maxsize=1 << 12)
def log2_fixed(x: int) -> int:
    """log2 of x > 0 in units of 2^-20, by squaring: the same everywhere."""
    whole = x.bit_length() - 1
    y = x >> (whole - 31) if whole > 31 else x << (31 - whole)
    result = whole
    for _ in range(20):
        y = y * y >> 31
        result = result << 1 | y >> 32
        y >>= y >> 32
    return result


def _count_words(words: list[str], settings: FactsSettings) -> dict[str, int]:
    counts = Counter(words)
    stop_words = set(settings.stop_words) & counts.keys()
    plain = alphabetic = plain_characters = 0
    for word, count in counts.items():
        is_alphabetic, is_plain = _word_kinds(word)
        alphabetic += count * is_alphabetic
        if is_plain:
            plain += count
            plain_characters += count * len(word)
    lengths = sorted(min(len(word), 255) for word in words)
    entropy = sum(count * log2_fixed(count) for count in counts.values())
    return {
        "words": len(words),
        "plain_words": plain,
        "plain_word_characters": plain_characters,
        "alphabetic_words": alphabetic,
        "unique_words": len(counts),
        "median_word_length": lengths[(len(lengths) - 1) // 2] if lengths else 0,
        "entropy": len(words) * log2_fixed(len(words)) - entropy if words else 0,
        "stop_words_distinct": len(stop_words),
        "stop_words_total": sum(counts[word] for word in stop_words),
    }


def word_bounds(data: bytes, settings: FactsSettings) -> list[tuple[int, int]]:
    """Where each word begins and ends, in bytes."""
    found, position = [], 0
    for word, _ in count_line(data.decode(), settings.words == "space").words:
        position = data.index(word.encode(), position)
        found.append((position, position + len(word.encode())))
        position = found[-1][1]
    return found
