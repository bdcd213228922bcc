from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.artifacts import InputTree
from arriero.data.audit.ledger import read_rows
from arriero.data.dedup import embed, semantic
from arriero.data.dedup.embed import cosines, products, quantise
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.semantic import alike, kmeans, nearest
from arriero.data.dedup.settings import Dedup, SemanticDuplicates
from arriero.data.execute import ExecutorSettings, make_executor

INLINE = ExecutorSettings(kind="inline")
NUMBERS = st.integers(-127, 127)
VECTORS = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), max_size=12)


@given(VECTORS, VECTORS)
def test_products_and_cosines_are_exact(a: list[list[int]], b: list[list[int]]) -> None:
    one, other = np.array(a, np.int8).reshape(-1, 3), np.array(b, np.int8).reshape(-1, 3)
    whole = one.astype(np.int64) @ other.astype(np.int64).T
    assert (products(one, other) == whole).all()
    for x, row in zip(a, cosines(one, other), strict=True):
        for y, found in zip(b, row, strict=True):
            length = np.sqrt(sum(v * v for v in x)) * np.sqrt(sum(v * v for v in y))
            assert found == pytest.approx(
                sum(v * w for v, w in zip(x, y, strict=True)) / length if length else 0.0
            )


def test_the_greatest_sums_are_exact_too() -> None:
    for dimensions in (1024, 1500):
        vector = np.full((1, dimensions), 127, np.int8)
        other = vector.copy()
        other[0, 0] = 126
        assert products(vector, other)[0, 0] == 127 * 127 * dimensions - 127


@settings(max_examples=60)
@given(VECTORS, st.sampled_from([0.9, 0.5, 1.0]), st.integers(1, 5))
def test_who_falls_is_what_a_plain_loop_says(vectors: list[list[int]], similarity: float, block: int) -> None:
    given = np.array(vectors, np.int8).reshape(-1, 3)
    scores = np.array([float(v[0] % 3) for v in vectors])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "_BLOCK", block)
        drops = alike(np.arange(len(given)) + 10, scores, given, similarity)
    survivors: list[int] = []
    expected: dict[int, int] = {}
    table = cosines(given, given)
    for row in sorted(range(len(given)), key=lambda r: (-scores[r], r)):
        best = max(survivors, key=lambda s: table[row, s], default=None)
        if best is not None and table[row, best] >= similarity:
            expected[row + 10] = best + 10
        else:
            survivors.append(row)
    assert dict(zip(drops["row"].tolist(), drops["survivor"].tolist(), strict=True)) == expected


def test_kmeans_finds_directions_and_has_no_more_clusters_than_vectors() -> None:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(4, 16))
    vectors = quantise(np.repeat(centres, 30, axis=0) + 0.1 * draw.normal(size=(120, 16)))
    order = draw.permutation(120)
    found = nearest(vectors[order], kmeans(vectors[order], 8, 20))
    for cluster in set(found.tolist()):
        assert len(set((order[found == cluster] // 30).tolist())) == 1, "a cluster holds one direction"
    assert len(kmeans(vectors[:3], 10, 5)) == 3
    assert len(nearest(vectors[:0], vectors[:2])) == 0


def test_reordered_documents_fall_and_others_stay(corpus: ModuleType, tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = [corpus.prose(150, n) for n in range(30)]
    sentences = texts[3].split("\n")
    draw.shuffle(sentences)
    texts.insert(20, "\n".join(sentences))
    parts = corpus.write_parts(tmp_path / "parts", [texts[:15], texts[15:]])
    settings = Dedup(threshold=None, semantic=SemanticDuplicates(clusters=3, sample=100))
    report = run_dedup(parts, settings, make_executor(INLINE), tmp_path / "work")
    rows = list(read_rows(tmp_path / "work" / "decisions" / "part-001.parquet"))
    assert [(row["row"], row["survivor"], row["step"]) for row in rows] == [
        (5, "part-000/3", "duplicate.semantic")
    ]
    assert rows[0]["value"] == pytest.approx(1.0)
    assert report.total.kept == 30 and report.steps["duplicate.semantic"]["clusters"] == 3


class Engine:
    """A stand-in for the inference room's engine: texts of one first word are alike."""

    dimensions = 8

    def embed(self, texts: list[str], truncate: bool = False) -> tuple[list[Any], list[int]]:
        assert truncate and all(texts)
        return [np.eye(8, dtype=np.float32)[ord(text[0]) % 8] for text in texts], [1] * len(texts)


def test_a_model_embeds_when_it_is_given(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "load_encoder", lambda folder: Engine())
    parts = corpus.write_parts(tmp_path / "parts", [["a b", "a c", ""], ["b c", "a d"]])
    given = SemanticDuplicates(embedder="model", model=InputTree(tmp_path))
    report = run_dedup(parts, Dedup(threshold=None, semantic=given), make_executor(INLINE), tmp_path / "work")
    assert report.total.kept == 3 and report.steps["duplicate.semantic"]["dimensions"] == 8
    with pytest.raises(ValidationError, match="give both, or neither"):
        SemanticDuplicates(embedder="model")


@pytest.mark.slow
def test_an_encoder_folder_embeds_through_the_projects_own_engine(corpus: ModuleType, tmp_path: Path) -> None:
    from arriero.models.checkpoint import save_model
    from arriero.models.encoder import Encoder
    from arriero.models.encoder_config import EncoderConfig
    from arriero.tokenization.bert_vocab import from_vocab

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    shape = {
        "vocab_size": len(words), "d_model": 32, "n_layers": 1, "n_heads": 2, "d_ff": 32, "context_length": 24,
        "pad_id": 0, "init_std": 0.3, "dropout": 0.0,
    }  # fmt: skip
    model = Encoder(EncoderConfig.model_validate(shape))
    model.init_weights(0)
    folder = tmp_path / "encoder"
    folder.mkdir()
    save_model(model.eval(), folder)
    from_vocab(words).save(folder)
    parts = corpus.write_parts(
        tmp_path / "parts", [["a b c " * 20, "d e f", ""], ["A b c " * 20 + " ", "g h g h"]]
    )
    given = SemanticDuplicates(embedder="model", model=InputTree(folder), similarity=0.999)
    dedup = Dedup(exact=False, threshold=None, semantic=given)
    report = run_dedup(parts, dedup, make_executor(INLINE), tmp_path / "work")
    assert report.total.kept == 4 and report.steps["duplicate.semantic"]["dimensions"] == 32
    rows = list(read_rows(tmp_path / "work" / "decisions" / "part-000.parquet"))
    assert [(row["row"], row["survivor"]) for row in rows] == [(0, "part-001/0")]
