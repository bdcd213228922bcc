"""N-gram language model over token ids: interpolated modified Kneser-Ney and its relatives, orders 1 to 7.

Chen and Goodman (1998), "An Empirical Study of Smoothing Techniques for Language Modeling", section 3:
three discounts per order for counts 1, 2 and 3 or more, all orders interpolated, the unigram interpolated
with the uniform distribution, so that every token has a probability above 0 after every context.
Counting, estimating, pruning and the ARPA format are in the files beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arriero.errors import ArrieroError
from arriero.models.arpa import read_arpa_tables, write_arpa_tables
from arriero.models.ngram_columns import Column, Workspace
from arriero.models.ngram_counts import Counts, Documents, checked_ids, count_ngrams
from arriero.models.ngram_estimate import estimate, pruning_of
from arriero.models.ngram_prune import prune_by_entropy
from arriero.models.ngram_smoothing import DEFAULT, Floats, get_smoothing
from arriero.models.ngram_tables import (
    Ints,
    Level,
    Tables,
    columns_of,
    config_values,
    find_rows,
    read_folder,
    write_folder,
)

MAX_ORDER = 7


class NGram:
    """A fitted model. Implements ``models.protocol.LanguageModel``."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.order, self.vocab_size = tables.order, tables.vocab_size

    @classmethod
    def fit(
        cls,
        documents: Documents,
        order: int,
        vocab_size: int,
        smoothing: str = DEFAULT,
        weight: float | None = None,
        prune: Sequence[int] = (),
        workspace: Workspace | None = None,
    ) -> NGram:
        """Fit on documents (arrays of token ids). An n-gram never reaches over two documents.

        Args:
            smoothing: a name of ``ngram_smoothing.SMOOTHING``, and its weight where it has one.
            prune: n-grams that occur at most so often are left out, by order from 1 on (``0 0 1``), as KenLM does.
            workspace: where counting is done; by default in memory.

        Raises:
            ArrieroError: the order is not 1 to 7, an id lies outside the vocabulary, or a setting does not fit.
        """
        fitted = fit_columns(documents, order, vocab_size, smoothing, weight, prune, workspace or Workspace())
        return cls(fitted.tables())

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[Floats]:
        """Natural-log p(x_t | x_<t) of every token but the first of each sequence: ``len(ids) - 1`` float64 each.

        Raises:
            ArrieroError: an id lies outside the vocabulary.
        """
        lengths = np.asarray([len(ids) for ids in sequences], np.int64)
        ids = checked_ids(sequences, self.vocab_size)
        ends = np.cumsum(lengths)
        with np.errstate(divide="ignore"):  # without smoothing there are probabilities of 0
            logs = np.log(self._probabilities(ids, (ends - lengths)[lengths > 0]))
        return [logs[end - length + 1 : end] for end, length in zip(ends, lengths, strict=True)]

    def _probabilities(self, ids: Ints, starts: Ints) -> Floats:
        """p(x_t | x_<t) at every position [N] of sequences in a row; at a sequence's first token, its unigram."""
        unigrams = self.tables.levels[0]
        p, rows, context_weights = unigrams.p[ids], ids, unigrams.backoff
        for level in self.tables.levels[1:]:
            contexts = np.concatenate([np.full(1, -1, np.int64), rows[:-1]])[: ids.size]
            contexts[starts] = -1
            # a context that was never seen leaves the lower order as it is
            p = np.where(contexts >= 0, p * context_weights[contexts], p) if context_weights.size else p
            keys = np.where(contexts >= 0, contexts * self.vocab_size + ids, -1)
            rows = find_rows(level.keys, keys)
            p = np.where(rows >= 0, level.p[rows], p) if level.p.size else p
            context_weights = level.backoff
        return p

    def distribution(self, context: Sequence[int]) -> Floats:
        """p(w | context) of every token of the vocabulary [V]; only the last ``order - 1`` ids count.

        Raises:
            ArrieroError: an id lies outside the vocabulary.
        """
        ids = checked_ids([context], self.vocab_size)
        p = self.tables.levels[0].p.copy()
        for n in range(2, min(self.order, ids.size + 1) + 1):
            row = int(self.tables.rows_of(ids[None, ids.size - (n - 1) :])[0])
            if row < 0:
                continue
            level, v = self.tables.levels[n - 1], self.vocab_size
            first, last = np.searchsorted(level.keys, (row * v, (row + 1) * v))
            p *= self.tables.levels[n - 2].backoff[row]
            p[level.keys[first:last] - row * v] = level.p[first:last]
        return p

    def sample(self, context: Sequence[int], n: int, seed: int, stop: int | None = None) -> list[int]:
        """Draw at most ``n`` tokens that go on from the context; ``stop`` ends the text and is its last token.

        Raises:
            ArrieroError: an id lies outside the vocabulary.
        """
        draw = np.random.default_rng(seed)
        ids = list(context)
        while len(ids) < len(context) + n:
            total = np.cumsum(self.distribution(ids[max(0, len(ids) - self.order + 1) :]))
            ids.append(int(np.searchsorted(total, draw.random() * total[-1], "right")))
            if ids[-1] == stop:
                break
        return ids[len(context) :]

    def parameter_counts(self) -> dict[str, int]:
        """Stored n-grams by order."""
        return self.tables.parameter_counts()

    def pruned(self, threshold: float, bos_id: int | None = None, eos_id: int | None = None) -> NGram:
        """The model without the n-grams whose removal raises its perplexity by a share below ``threshold`` each.

        See ``ngram_prune.prune_by_entropy``.
        """
        return NGram(prune_by_entropy(self.tables, threshold, bos_id, eos_id))

    def save(self, folder: Path) -> None:
        """Write ``ngram.json`` and ``ngram.safetensors``."""
        tables = self.tables
        config = config_values(tables.order, tables.vocab_size, tables.seen, tables.about)
        write_folder(folder, config, columns_of(tables))

    @classmethod
    def load(cls, folder: Path) -> NGram:
        """Read what :meth:`save` wrote.

        Raises:
            ArrieroError: the folder holds no n-gram model, or a damaged one.
        """
        return cls(read_folder(folder))

    def write_arpa(
        self, path: Path, vocabulary: Sequence[str], bos_id: int | None = None, eos_id: int | None = None
    ) -> None:
        """Write the model in ARPA format; see ``arpa.write_arpa_tables``."""
        write_arpa_tables(self.tables, path, vocabulary, bos_id, eos_id)


def read_arpa(
    path: Path,
    vocabulary: Sequence[str] | None = None,
    bos_id: int | None = None,
    eos_id: int | None = None,
) -> tuple[NGram, list[str]]:
    """A model in ARPA format and its words by token id; see ``arpa.read_arpa_tables``."""
    tables, words = read_arpa_tables(path, vocabulary, bos_id, eos_id)
    return NGram(tables), words


# ---------------------------------------------------------------- fitting


class Fitted:
    """A model whose arrays may still lie on the disk."""

    def __init__(self, counts: Counts, columns: dict[str, Column], about: dict[str, Any]) -> None:
        self._columns = columns
        self._order, self._vocab_size = counts.order, counts.vocab_size
        self._seen = int(np.count_nonzero(counts.plain_unigrams))
        self.about = about

    def tables(self) -> Tables:
        """The model in memory."""
        nothing = Column.of(np.ones(0))
        levels = [
            Level(
                self._columns[f"keys.{n}"].read() if n > 1 else np.arange(self._vocab_size),
                self._columns[f"p.{n}"].read(),
                self._columns.get(f"backoff.{n}", nothing).read(),
            )
            for n in range(1, self._order + 1)
        ]
        return Tables(self._vocab_size, self._seen, levels, self.about)

    def parameter_counts(self) -> dict[str, int]:
        """Stored n-grams by order."""
        above = {f"{n}-gram": len(self._columns[f"keys.{n}"]) for n in range(2, self._order + 1)}
        return {"1-gram": self._seen} | above

    def save(self, folder: Path) -> None:
        """What :meth:`NGram.save` writes, copied piece by piece."""
        config = config_values(self._order, self._vocab_size, self._seen, self.about)
        names = columns_in_file_order(self._order)
        write_folder(folder, config, {name: self._columns[name] for name in names})


def columns_in_file_order(order: int) -> list[str]:
    """Names of the arrays of a model."""
    found = []
    for n in range(1, order + 1):
        found += [f"p.{n}", *([f"keys.{n}"] if n > 1 else []), *([f"backoff.{n}"] if n < order else [])]
    return found


def fit_columns(
    documents: Documents,
    order: int,
    vocab_size: int,
    smoothing: str,
    weight: float | None,
    prune: Sequence[int],
    workspace: Workspace,
) -> Fitted:
    """:meth:`NGram.fit` without reading the model into memory: it stays in the workspace."""
    if not 1 <= order <= MAX_ORDER:
        raise ArrieroError(f"an n-gram model of order {order} cannot be fitted; 1 to {MAX_ORDER} can")
    method, own_weight = get_smoothing(smoothing, weight)
    cuts = pruning_of(prune, order)
    counts = count_ngrams(documents, order, vocab_size, workspace)
    columns, about = estimate(counts, method, own_weight, cuts, workspace)
    about = {"smoothing": smoothing, "weight": own_weight, "prune": cuts, "tokens": counts.tokens, **about}
    return Fitted(counts, columns, about)
