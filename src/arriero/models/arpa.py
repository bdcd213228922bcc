r"""ARPA files of back-off models: written for and read from KenLM, SRILM and the like, plain or gzipped (``.gz``).

Format (Jurafsky and Martin; SRILM's ngram-format(5)): a head ``\data\`` with the number of n-grams by order, one section
``\n-grams:`` an order with lines ``log10 p <tab> words <tab> log10 back-off``, and ``\end\``.

Conventions. A word is a token's text; white space and control characters, which the format cannot hold, are written as
SentencePiece writes bytes, ``<0x20>``. The token that begins documents is the word ``<s>`` and the one that ends them
``</s>``. Our models give a probability to every token of a closed vocabulary, ``<s>`` too (its share of the uniform
distribution), and have no unknown word: where ``<s>``, ``</s>`` or ``<unk>``, without which other programs refuse or
complain, are no tokens, they are written with log10 p = -99. A probability of 0 is written as -99 too.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from arriero.errors import ArrieroError
from arriero.models.ngram_tables import Floats, Ints, Level, Tables

BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0
"""log10 of the probability 0, as SRILM writes it."""
_LINES_AT_ONCE = 1 << 16
_NO_WORD = re.compile("[\x00-\x20\x7f]")
_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)")


def arpa_words(vocabulary: Sequence[str], bos_id: int | None = None, eos_id: int | None = None) -> list[str]:
    """The word of each token. One token that both begins and ends documents can be neither mark: it keeps its text.

    Raises:
        ArrieroError: two tokens would have the same word, or a token has no text.
    """
    words = [_NO_WORD.sub(lambda found: f"<0x{ord(found[0]):02X}>", piece) for piece in vocabulary]
    if bos_id != eos_id:
        for mark, token in ((BOS, bos_id), (EOS, eos_id)):
            if token is not None:
                words[token] = mark
    first: dict[str, int] = {}
    for token, word in enumerate(words):
        if not word:
            raise ArrieroError(f"token {token} has no text, so it cannot be a word of an ARPA file")
        if first.setdefault(word, token) != token:
            raise ArrieroError(
                f"tokens {first[word]} and {token} would both be the word '{word}' in an ARPA file"
            )
    return words


# ---------------------------------------------------------------- writing


def write_arpa_tables(
    tables: Tables, path: Path, vocabulary: Sequence[str], bos_id: int | None, eos_id: int | None
) -> None:
    """Write a model; figures have 9 significant digits. The same model gives the same bytes.

    Raises:
        ArrieroError: the vocabulary has not one distinct text for every token.
    """
    if len(vocabulary) != tables.vocab_size:
        raise ArrieroError(f"{len(vocabulary):,} texts for a model of {tables.vocab_size:,} tokens")
    words = arpa_words(vocabulary, bos_id, eos_id)
    missing = [mark for mark in (UNKNOWN, BOS, EOS) if mark not in words]
    with _open_to_write(path) as file:
        file.write("\\data\\\n")
        for n, level in enumerate(tables.levels, start=1):
            file.write(f"ngram {n}={level.keys.size + (len(missing) if n == 1 else 0)}\n")
        for n in range(1, tables.order + 1):
            file.write(f"\n\\{n}-grams:\n")
            if n == 1:
                file.writelines(f"{NEVER:g}\t{mark}\n" for mark in missing)
            _write_section(tables, n, words, file)
        file.write("\n\\end\\\n")


def _write_section(tables: Tables, n: int, words: list[str], file: IO[str]) -> None:
    level = tables.levels[n - 1]
    for start in range(0, level.keys.size, _LINES_AT_ONCE):
        stop = min(start + _LINES_AT_ONCE, level.keys.size)
        grams = [" ".join(map(words.__getitem__, gram)) for gram in tables.grams_of(n, start, stop).tolist()]
        p = _log10(level.p[start:stop], highest=0.0)
        if n == tables.order:
            file.writelines(f"{a:.9g}\t{gram}\n" for a, gram in zip(p, grams, strict=True))
        else:
            backoff = _log10(level.backoff[start:stop])
            lines = zip(p, grams, backoff, strict=True)
            file.writelines(f"{a:.9g}\t{gram}\t{b:.9g}\n" for a, gram, b in lines)


def _log10(values: Floats, highest: float = np.inf) -> list[float]:
    with np.errstate(divide="ignore"):
        logs: list[float] = np.clip(np.log10(values), NEVER, highest).tolist()
    return logs


@contextmanager
def _open_to_write(path: Path) -> Iterator[IO[str]]:
    with path.open("wb") as raw:
        if path.suffix != ".gz":
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as file:
                yield file
            return
        # no time and no name inside, so that the same model gives the same bytes
        with (
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as file,
        ):
            yield file


# ---------------------------------------------------------------- reading


def read_arpa_tables(
    path: Path, vocabulary: Sequence[str] | None, bos_id: int | None, eos_id: int | None
) -> tuple[Tables, list[str]]:
    """(model, its words by token id).

    Without a ``vocabulary`` the words of the file are the tokens, in the file's order. With one (texts by token id, as for
    writing), ``<s>``, ``</s>`` and ``<unk>`` may stand in the file without being tokens, and a token that is not in the
    file has the probability of ``<unk>`` (0 without it) and ends every context.

    Raises:
        ArrieroError: the file cannot be read, or a line of it is wrong: the message has its number.
    """
    lines = _Lines(path)
    sizes = lines.head()
    words = None if vocabulary is None else arpa_words(vocabulary, bos_id, eos_id)
    section = lines.section(1, sizes)
    names = [gram[0] for gram in section.grams]
    if words is None:
        words = [name.decode("utf-8", "replace") for name in names]
        ids = {name: token for token, name in enumerate(names)}
    else:
        ids = {word.encode(): token for token, word in enumerate(words)}
    tables = _unigrams(section, ids, len(words), lines)
    for n in range(2, len(sizes) + 1):
        tables = _longer(tables, lines.section(n, sizes), ids, lines)
    lines.end()
    top = replace(tables.levels[-1], backoff=np.ones(0))
    return replace(tables, levels=[*tables.levels[:-1], top], about={"read_from": path.name}), words


class _Section:
    """The lines of one order: words, log10 p, log10 back-off, line numbers."""

    def __init__(self) -> None:
        self.grams: list[list[bytes]] = []
        self.p: list[float] = []
        self.backoff: list[float] = []
        self.lines: list[int] = []

    def values(self, kept: Ints) -> tuple[Floats, Floats]:
        """(probability, back-off weight) of the kept lines."""
        p, backoff = (np.asarray(column, np.float64)[kept] for column in (self.p, self.backoff))
        return 10.0**p, 10.0**backoff


class _Lines:
    """An ARPA file line by line; faults are told with the line's number."""

    def __init__(self, path: Path) -> None:
        self._path, self._number = path, 0
        self._lines = self._read()
        self._waiting: bytes | None = None

    def _read(self) -> Iterator[bytes]:
        try:
            with gzip.open(self._path) if self._path.suffix == ".gz" else self._path.open("rb") as file:
                for self._number, line in enumerate(file, start=1):
                    if line.strip():
                        yield line.strip()
        except (OSError, EOFError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ArrieroError(f"{self._path}, line {self._number}: cannot be read: {why}") from None

    def error(self, what: str, line: int | None = None) -> ArrieroError:
        return ArrieroError(f"{self._path}, line {line or self._number}: {what}")

    def _next(self, wanted: str) -> bytes:
        line = next(self._lines, None) if self._waiting is None else self._waiting
        self._waiting = None
        if line is None:
            raise self.error(f"the file ends where {wanted} should be")
        return line

    def head(self) -> list[int]:
        r"""N-grams by order, as ``\data\`` says."""
        while self._next("\\data\\") != b"\\data\\":
            pass
        sizes: list[int] = []
        while (found := _COUNT.fullmatch(line := self._next("the number of n-grams"))) is not None:
            if int(found[1]) != len(sizes) + 1:
                raise self.error(f"the number of {len(sizes) + 1}-grams should be here")
            sizes.append(int(found[2]))
        if not sizes:
            raise self.error("'ngram 1=<number>' should be here")
        self._waiting = line
        return sizes

    def section(self, n: int, sizes: list[int]) -> _Section:
        """The n-grams of one order."""
        if self._next(f"\\{n}-grams:") != f"\\{n}-grams:".encode():
            raise self.error(f"\\{n}-grams: should be here")
        found, top = _Section(), n == len(sizes)
        while not (line := self._next("\\end\\")).startswith(b"\\"):
            self._parse(line, n, top, found)
        self._waiting = line
        if len(found.p) != sizes[n - 1]:
            raise self.error(f"{len(found.p):,} {n}-grams end here, but \\data\\ says {sizes[n - 1]:,}")
        return found

    def _parse(self, line: bytes, n: int, top: bool, section: _Section) -> None:
        fields = line.split()
        if len(fields) != n + 1 and (top or len(fields) != n + 2):
            wanted = "log10 p and" if top else "log10 p,"
            more = "" if top else " and perhaps a back-off weight"
            raise self.error(f"{len(fields)} fields, but a line here has {wanted} {n} words{more}")
        try:
            p = float(fields[0])
            backoff = float(fields[n + 1]) if len(fields) == n + 2 else 0.0
        except ValueError:
            raise self.error(f"not a number in '{line.decode('utf-8', 'replace')[:60]}'") from None
        if not p <= 0:
            raise self.error(f"log10 p should not be above 0, but is {p:g}")
        if not backoff < float("inf"):
            raise self.error(f"the back-off weight {backoff:g} is no finite number")
        section.p.append(p)
        section.backoff.append(backoff)
        section.grams.append(fields[1 : n + 1])
        section.lines.append(self._number)

    def end(self) -> None:
        r"""``\end\``"""
        if self._next("\\end\\") != b"\\end\\":
            raise self.error("\\end\\ should be here")


def _unigrams(section: _Section, ids: dict[bytes, int], vocab_size: int, lines: _Lines) -> Tables:
    marks = {mark.encode() for mark in (BOS, EOS, UNKNOWN)}
    tokens = []
    seen: set[bytes] = set()
    for (name,), line in zip(section.grams, section.lines, strict=True):
        if name in seen:
            raise lines.error(f"the word '{name.decode('utf-8', 'replace')}' is there twice", line)
        if name not in ids and name not in marks:
            raise lines.error(
                f"the word '{name.decode('utf-8', 'replace')}' is no token of the vocabulary", line
            )
        seen.add(name)
        tokens.append(ids.get(name, -1))
    unknown = next(
        (10**p for (name,), p in zip(section.grams, section.p, strict=True) if name == b"<unk>"), 0.0
    )
    found = np.asarray(tokens, np.int64)
    kept = np.flatnonzero(found >= 0)
    p, backoff = np.full(vocab_size, unknown), np.ones(vocab_size)
    p[found[kept]], backoff[found[kept]] = section.values(kept)
    return Tables(vocab_size, kept.size, [Level(np.arange(vocab_size), p, backoff)])


def _longer(tables: Tables, section: _Section, ids: dict[bytes, int], lines: _Lines) -> Tables:
    """The tables with one more order."""
    n, v = tables.order + 1, tables.vocab_size
    marks = {mark.encode(): -1 for mark in (BOS, EOS, UNKNOWN)} | ids
    try:
        grams = np.asarray([[marks[word] for word in gram] for gram in section.grams], np.int64).reshape(
            -1, n
        )
    except KeyError:
        for gram, line in zip(section.grams, section.lines, strict=True):
            for word in gram:
                if word not in marks:
                    raise lines.error(
                        f"'{word.decode('utf-8', 'replace')}' is not among the 1-grams", line
                    ) from None
        raise
    # an n-gram with a mark that is no token can never be looked up
    kept = np.flatnonzero((grams >= 0).all(1))
    contexts = tables.rows_of(grams[kept, :-1])
    if (contexts < 0).any():
        at = int(kept[int(np.argmax(contexts < 0))])
        text = b" ".join(section.grams[at]).decode("utf-8", "replace")
        raise lines.error(f"'{text}' has no line for its first {n - 1} words", section.lines[at])
    keys = contexts * v + grams[kept, -1]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if twice.size:
        at = int(kept[order[twice[0] + 1]])
        text = b" ".join(section.grams[at]).decode("utf-8", "replace")
        raise lines.error(f"'{text}' is there twice", section.lines[at])
    return replace(tables, levels=[*tables.levels, Level(keys, *section.values(kept[order]))])
