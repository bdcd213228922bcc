"""How well tokenizers fit languages and scripts: bytes per token, and tokens per word (fertility).

Words are stretches between white space with a letter or digit in them (punctuation alone is no word); in scripts that
write no spaces (Han, Kana, Thai ...) every letter counts as one word. Fertility is Ács' (2019) and Rust et al.'s (2021,
arXiv 2012.15613) measure.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from arriero.errors import ArrieroError
from arriero.tokenization.scripts import COMMON, WITHOUT_SPACES, script_of
from arriero.tokenization.tokenizer import Tokenizer

Grouping = Literal["script", "language"]
_LANGUAGE_FIELDS = ("lang", "language", "file")
NOTE = f"words: between spaces; in scripts without spaces ({', '.join(sorted(WITHOUT_SPACES))}) every letter"


@dataclass
class Fit:
    """Counts of one group of texts under one tokenizer."""

    texts: int = 0
    bytes: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0
    """Tokens that stand for text that the tokenizer cannot write ([UNK]): they hide how badly it fits."""

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes that a token stands for."""
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def fertility(self) -> float:
        """Tokens that a word takes."""
        return self.tokens / self.words if self.words else 0.0

    @property
    def unknown_share(self) -> float:
        """Share of the tokens that are unknown."""
        return self.unknown / self.tokens if self.tokens else 0.0

    def add(self, text: str, ids: Sequence[int], unknown: int | None) -> None:
        """Count one text more. ``unknown``: id of the unknown token."""
        self.texts += 1
        self.bytes += len(text.encode())
        self.words += count_words(text)
        self.tokens += len(ids)
        self.unknown += sum(id == unknown for id in ids)


def main_script(text: str) -> str:
    """The script of most letters of a text."""
    counts = Counter(script_of(character) for character in text)
    del counts[COMMON]
    return max(counts, key=lambda script: (counts[script], script)) if counts else COMMON


def count_words(text: str) -> int:
    """Words between spaces, and every letter of scripts without spaces."""
    alone = {character for character in set(text) if script_of(character) in WITHOUT_SPACES}
    if not alone:
        return sum(any(map(str.isalnum, word)) for word in text.split())
    rest = re.sub(f"[{re.escape(''.join(sorted(alone)))}]", " ", text)
    return sum(character in alone and character.isalpha() for character in text) + count_words(rest)


def measure(
    tokenizers: Mapping[str, Tokenizer], texts: Sequence[tuple[str, str]], by: Grouping
) -> dict[str, dict[str, Fit]]:
    """Group -> name of tokenizer -> counts. ``texts``: (language, text)."""
    groups = [language if by == "language" else main_script(text) for language, text in texts]
    found: dict[str, dict[str, Fit]] = {
        group: {name: Fit() for name in tokenizers} for group in sorted(set(groups))
    }
    for name, tokenizer in tokenizers.items():
        ids = tokenizer.encode_batch([text for _, text in texts])
        for group, (_, text), encoded in zip(groups, texts, ids, strict=True):
            found[group][name].add(text, encoded, tokenizer.unk_id)
    return found


def read_texts(files: Sequence[Path]) -> list[tuple[str, str]]:
    """(language, text) of every document: rows of JSONL (fields text and lang), or whole text files, named by the file.
    Files may be compressed with gzip.

    Raises:
        ArrieroError: a file is missing, is not UTF-8, or a row has no text.
    """
    return [pair for file in files for pair in _read(Path(file))]


def _read(file: Path) -> Iterator[tuple[str, str]]:
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise ArrieroError(f"there is no file {file}") from None
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise ArrieroError(f"{file} is not UTF-8 text: {error}") from None
    name = file.name.removesuffix(".gz")
    if not name.endswith((".jsonl", ".json")):
        yield name.partition(".")[0], text
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _row(line, f"{file}, line {number}", name.partition(".")[0])


def _row(line: str, where: str, fallback: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except ValueError:
        raise ArrieroError(f"{where} is not JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ArrieroError(f"{where} has no field text")
    language = next((row[key] for key in _LANGUAGE_FIELDS if isinstance(row.get(key), str)), fallback)
    return language, row["text"]


def fertility_report(
    tokenizers: Sequence[Path], files: Sequence[Path], by: Grouping = "script"
) -> tuple[Table, dict[str, Any]]:
    """A table of bytes per token and fertility for each group and tokenizer, and the same as data.

    Raises:
        ArrieroError: a tokenizer or text cannot be read, or there is no text.
    """
    from arriero.tokenization.load import load_tokenizer

    texts = read_texts(files)
    if not any(text for _, text in texts):
        raise ArrieroError("there is no text to measure on")
    found = measure({_name(path, tokenizers): load_tokenizer(path) for path in tokenizers}, texts, by)
    table = Table(title="Bytes per token, and tokens per word", caption=NOTE, caption_justify="left")
    names = list(next(iter(found.values())))
    table.add_column(by)
    table.add_column("texts", justify="right")
    with_unknown = {name for fits in found.values() for name, fit in fits.items() if fit.unknown}
    for name in names:
        table.add_column(f"{name}\nB/token", justify="right")
        table.add_column(f"{name}\ntokens/word", justify="right")
        if name in with_unknown:
            table.add_column(f"{name}\nunknown", justify="right")
    for group, fits in found.items():
        cells = [cell for name, fit in fits.items() for cell in _cells(fit, name in with_unknown)]
        table.add_row(group, f"{next(iter(fits.values())).texts:,}", *cells)
    return table, {"by": by, "words": NOTE, "groups": {g: _data(fits) for g, fits in found.items()}}


def _cells(fit: Fit, with_unknown: bool) -> list[str]:
    unknown = [f"{fit.unknown_share:.0%}"] if with_unknown else []
    return [f"{fit.bytes_per_token:.2f}", f"{fit.fertility:.2f}", *unknown]


def _name(path: Path, paths: Sequence[Path]) -> str:
    """A file goes by its folder's name where it is called as all such files are, and by its path if two share it."""

    def short(path: Path) -> str:
        return path.name if Path(path).is_dir() else f"{path.resolve().parent.name}/{path.name}"

    names = [short(Path(other)) for other in paths]
    return short(Path(path)) if names.count(short(Path(path))) == 1 else str(path)


def _data(fits: Mapping[str, Fit]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "texts": fit.texts, "bytes": fit.bytes, "words": fit.words, "tokens": fit.tokens, "unknown": fit.unknown,
            "bytes_per_token": round(fit.bytes_per_token, 4), "fertility": round(fit.fertility, 4),
        }
        for name, fit in fits.items()
    }  # fmt: skip
