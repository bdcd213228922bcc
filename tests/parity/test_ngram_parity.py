"""Our n-gram models and KenLM's reader on the same ARPA files, both ways."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from arriero.models.ngram import NGram, read_arpa
from arriero.models.ngram_smoothing import SMOOTHING

kenlm = pytest.importorskip("kenlm")
pytestmark = pytest.mark.parity
V, BOS, EOS = 40, 0, 1
WORDS = ["<s>", "</s>", *(f"w{token}" for token in range(2, V))]


def texts(seed: int, count: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    share = 1 / (np.arange(V - 2) + 2)
    found = []
    for _ in range(count):
        body = rng.choice(np.arange(2, V), rng.integers(0, 25), p=share / share.sum())
        body[1::3] = (body[0::3][: len(body[1::3])] * 7 + 3) % (V - 2) + 2
        found.append([BOS, *body.tolist(), EOS])
    return found


def kenlm_scores(model: object, ids: list[int]) -> list[float]:
    sentence = " ".join(WORDS[token] for token in ids[1:-1])
    return [score for score, _, _ in model.full_scores(sentence, bos=True, eos=True)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("order", [2, 3, 5, 6])
@pytest.mark.parametrize("prune", [(), (0, 0, 1), "entropy"])
def test_kenlm_reads_what_we_write(tmp_path: Path, order: int, prune: tuple[int, ...] | str) -> None:
    if prune == "entropy":
        model = NGram.fit(texts(1, 400), order, V).pruned(1e-5, BOS, EOS)
    else:
        model = NGram.fit(texts(1, 400), order, V, prune=[int(cut) for cut in prune][:order])
    path = tmp_path / "m.arpa"
    model.write_arpa(path, WORDS, BOS, EOS)
    theirs = kenlm.Model(str(path))
    assert theirs.order == order
    again, _ = read_arpa(path, WORDS, BOS, EOS)
    for ids in texts(2, 200):
        expected = np.asarray(kenlm_scores(theirs, ids))
        for ours in (model, again):
            assert np.abs(ours.token_logprobs([ids])[0] / math.log(10) - expected).max() < 1e-4


@pytest.mark.parametrize("smoothing", [name for name in SMOOTHING if name != "mle"])
def test_every_smoothing_is_a_back_off_model(tmp_path: Path, smoothing: str) -> None:
    model = NGram.fit(texts(1, 200), 4, V, smoothing)
    model.write_arpa(tmp_path / "m.arpa", WORDS, BOS, EOS)
    theirs = kenlm.Model(str(tmp_path / "m.arpa"))
    for ids in texts(3, 60):
        ours = model.token_logprobs([ids])[0] / math.log(10)
        assert np.abs(ours - kenlm_scores(theirs, ids)).max() < 1e-4


def test_we_read_a_file_of_another_kind_as_kenlm_does(tmp_path: Path) -> None:
    """Random back-off weights and probabilities that sum to nothing in particular, n-grams in random order."""
    rng = np.random.default_rng(7)
    grams: dict[int, list[tuple[str, ...]]] = {1: [(word,) for word in ["<unk>", *WORDS]]}
    tops = {("<s>", "w2", "w3", "</s>")} | {tuple(map(str, rng.choice(WORDS[2:], 4))) for _ in range(150)}
    for n in range(2, 5):  # KenLM wants the shorter n-grams in a longer one, too
        parts = {gram[at : at + n] for gram in tops for at in range(5 - n)}
        grams[n] = [tuple(gram) for gram in rng.permutation(sorted(parts)).tolist()]
    lines = ["\\data\\", *(f"ngram {n}={len(found)}" for n, found in grams.items())]
    for n, found in grams.items():
        lines += ["", f"\\{n}-grams:"]
        for gram in found:
            backoff = f"\t{-rng.exponential():.6f}" if n < 4 and gram[-1] != "</s>" else ""
            lines.append(f"{-rng.exponential() - 0.01:.6f}\t{' '.join(gram)}{backoff}")
    path = tmp_path / "m.arpa"
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))
    theirs, (ours, words) = kenlm.Model(str(path)), read_arpa(path)
    assert len(grams[4]) > 50
    hits = 0
    for _ in range(300):
        gram = [str(word) for word in rng.choice(WORDS[2:], 6)]
        if rng.random() < 0.7:
            some = grams[4][rng.integers(len(grams[4]))]
            gram[1:1] = [word for word in some if word not in ("<s>", "</s>")]
        if rng.random() < 0.3:
            gram[2] = "unheard-of"
        scores = list(theirs.full_scores(" ".join(gram)))
        ids = [
            words.index(word) if word in words else words.index("<unk>") for word in ["<s>", *gram, "</s>"]
        ]
        assert np.abs(ours.token_logprobs([ids])[0] / math.log(10) - [s for s, _, _ in scores]).max() < 1e-4
        hits += sum(length >= 3 for _, length, _ in scores)
    assert hits > 50
