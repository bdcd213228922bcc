"""Tokens of a report: four bytes of text each, or by a tokenizer on a seeded sample of every source and language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arriero.data.audit.reservoir import Reservoir

if TYPE_CHECKING:
    from arriero.data.audit.curated import CuratedCorpus

BYTES_PER_TOKEN = 4.0
"""Of English under a large vocabulary; what is taken where no tokenizer is given."""
_SAMPLE = 32
"""Texts of a source and language that a tokenizer encodes."""
_TEXT_BYTES = 100_000
"""Of a sampled text no more than this is encoded."""


@dataclass(frozen=True)
class TokenCount:
    """How many bytes of text stand for a token, by source and language."""

    basis: str
    overall: float = BYTES_PER_TOKEN
    groups: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def bytes_per_token(self, source: str, lang: str) -> float:
        """Bytes a token of that source and language; the overall figure where it was not sampled."""
        return self.groups.get((source, lang), self.overall)

    def to_json(self) -> dict[str, Any]:
        return {
            "basis": self.basis, "bytes_per_token": round(self.overall, 4),
            "groups": [
                {"source": source, "lang": lang, "bytes_per_token": round(ratio, 4)}
                for (source, lang), ratio in sorted(self.groups.items())
            ],
        }  # fmt: skip


def estimated_tokens() -> TokenCount:
    """Four bytes a token, whatever the language."""
    return TokenCount(f"estimated: {BYTES_PER_TOKEN:g} bytes of text a token")


def sampled_tokens(corpus: CuratedCorpus, tokenizer: Path, seed: int = 0) -> TokenCount:
    """Bytes a token, measured on up to 32 texts of every source and language.

    Raises:
        ArrieroError: there is no tokenizer.
    """
    from arriero.data.audit.tally import NO_LANGUAGE
    from arriero.tokenization.tokenizer import Tokenizer

    encoder = Tokenizer.load(tokenizer)
    reservoir: Reservoir[tuple[str, str], tuple[int, int]] = Reservoir(_SAMPLE, seed)
    for number, (_part, table) in enumerate(corpus.tables(["id", "source", "lang", "text_bytes"])):
        rows = zip(*(table[name].to_pylist() for name in ("id", "source", "lang", "text_bytes")), strict=True)
        for row, (id, source, lang, size) in enumerate(rows):
            if size:
                reservoir.offer((source, lang or NO_LANGUAGE), id, (number, row))
    groups: dict[tuple[str, str], float] = {}
    n_bytes = n_tokens = 0
    for group, members in reservoir.items():
        texts = [str(corpus.parts[part].text(row)["text"]).encode()[:_TEXT_BYTES] for part, row in members]
        sizes = sum(map(len, texts))
        tokens = sum(len(ids) for ids in encoder.encode_batch([t.decode("utf-8", "ignore") for t in texts]))
        groups[group] = sizes / max(tokens, 1)
        n_bytes, n_tokens = n_bytes + sizes, n_tokens + tokens
    basis = (
        f"sampled: tokenizer {encoder.fingerprint[:12]} on up to {_SAMPLE} texts of every source and language"
    )
    return TokenCount(basis, n_bytes / max(n_tokens, 1) if n_tokens else BYTES_PER_TOKEN, groups)
