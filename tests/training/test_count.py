from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from arriero.artifacts import Artifact, Manifest
from arriero.cost.device import Rate
from arriero.data.documents import Document
from arriero.data.shard_writer import ShardWriter, publish
from arriero.data.shards import META_FILE, TokenShards, TokensMeta, token_type
from arriero.data.tokenize import TOKENIZER_FOLDER
from arriero.errors import ArrieroError, Interrupted
from arriero.models.ngram import NGram, read_arpa
from arriero.models.ngram_tables import is_ngram_folder, read_folder_config
from arriero.stage import TokenSplitSpec, TokensSpec, get_stage
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.count import RATE, _last_document, _spec, expected_ngrams, pieces_of

STAGE = get_stage("ngram")
SETTINGS = STAGE.Settings
DEVICE: Any = SimpleNamespace(process_bytes=3e8, rate=lambda name: Rate(per_s=1e6, spread=0.2, unit="tokens"))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("tokens")
    texts = [f"{text}\n\tZoë {n}" for n, text in enumerate(sample_texts(40_000, words_per_text=60))]
    tokenizer = train_bpe(texts, 400, "llama3", 2)
    splits = {}
    for split, part in (("train", texts[5:]), ("validation", texts[:5])):
        documents = [Document(str(n), text, "s", None, "CC0-1.0", None) for n, text in enumerate(part)]
        splits[split] = ShardWriter(folder / "state", split, tokenizer, 5000).write(
            iter(documents), lambda _: None
        )
    meta = TokensMeta(
        dtype=token_type(400), vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, splits=splits,
    )  # fmt: skip
    publish(folder / "state", folder, meta)
    (folder / META_FILE).write_text(meta.model_dump_json())
    tokenizer.save(folder / TOKENIZER_FOLDER)
    sizes = {
        n: TokenSplitSpec(documents=s.documents, tokens=s.tokens, bytes=s.bytes) for n, s in splits.items()
    }
    spec = TokensSpec(vocab_size=tokenizer.vocab_size, splits=sizes)
    manifest = Manifest(
        name="tokens", kind="tokenize", makes="tokens", key="k", stage_version=1, settings={}, seed=0,
        spec=spec.model_dump(), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


class Quiet:
    """What a run gives to a stage; asks to stop after ``stop_after`` questions."""

    def __init__(self, root: Path, stop_after: int = 1 << 30) -> None:
        self.folder, self.state, self.seed, self.left = root / "folder", root / "state", 0, stop_after
        for folder in (self.folder, self.state):
            folder.mkdir(parents=True, exist_ok=True)
        self.told: list[tuple[float, float | None]] = []

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        self.told.append((done, total))

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left < 0


def run(tokens: Artifact, root: Path, stop_after: int = 1 << 30, **settings: Any) -> tuple[Any, Quiet]:
    context: Any = Quiet(root, stop_after)
    return STAGE.run(SETTINGS(**settings), {"tokens": tokens}, context), context


def test_the_artifact_is_the_model_of_the_training_split(tokens: Artifact, tmp_path: Path) -> None:
    outcome, context = run(tokens, tmp_path, order=4)
    assert is_ngram_folder(context.folder) and read_folder_config(context.folder)["order"] == 4
    shards = TokenShards.open(tokens.path, "train")
    documents = [shards.document(i) for i in range(shards.n_documents)]
    expected, found = NGram.fit(documents, 4, 400), NGram.load(context.folder)
    heldout = [TokenShards.open(tokens.path, "validation").document(0).tolist()]
    assert (found.token_logprobs(heldout)[0] == expected.token_logprobs(heldout)[0]).all()
    spec = outcome.spec
    assert spec.config == {
        "family": "ngram",
        "vocab_size": 400,
        "order": 4,
        "smoothing": "modified_kneser_ney",
    }
    assert spec.n_parameters == sum(expected.parameter_counts().values())
    assert spec.weight_bytes == (context.folder / "ngram.safetensors").stat().st_size
    assert outcome.facts["tokens"] == shards.n_tokens
    assert len(outcome.facts["discounts"]) == 4
    assert (
        Tokenizer.load(context.folder).fingerprint
        == Tokenizer.load(tokens.path / TOKENIZER_FOLDER).fingerprint
    )
    json.dumps(outcome.facts)
    done = [figure for figure, _ in context.told]
    assert done == sorted(done) and context.told[-1][0] == context.told[-1][1]


def test_little_memory_and_kills_give_the_same_bytes(
    tokens: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arriero.models.ngram_columns.BYTES_PER_RECORD", 150)
    _, whole = run(tokens, tmp_path / "whole", order=3, prune=[0, 0, 1])
    kills = 0
    for stop_after in range(5, 400, 12):
        try:
            run(tokens, tmp_path / "killed", stop_after, order=3, prune=[0, 0, 1], max_memory="1MB")
            break
        except Interrupted as stopped:
            assert "\n" not in str(stopped)
            kills += 1
    assert 2 < kills < 30
    for name in ("ngram.json", "ngram.safetensors"):
        assert (tmp_path / "killed/folder" / name).read_bytes() == (whole.folder / name).read_bytes()


def test_pruning_and_arpa(tokens: Artifact, tmp_path: Path) -> None:
    whole, _ = run(tokens, tmp_path / "whole", order=3)
    outcome, context = run(
        tokens, tmp_path / "pruned", order=3, prune=[0, 0, 1], prune_entropy=1e-5, arpa=True
    )
    assert outcome.spec.n_parameters < whole.spec.n_parameters
    assert sum(outcome.facts["ngrams_before_pruning"].values()) > outcome.spec.n_parameters
    tokenizer = Tokenizer.load(context.folder)
    pieces = pieces_of(tokenizer)
    assert len(set(pieces)) == len(pieces) == 400
    again, _ = read_arpa(context.folder / "model.arpa.gz", pieces, tokenizer.bos_id, tokenizer.eos_id)
    text = [TokenShards.open(tokens.path, "validation").document(1).tolist()]
    model = NGram.load(context.folder)
    assert again.token_logprobs(text)[0] == pytest.approx(model.token_logprobs(text)[0], abs=1e-6)
    assert model.distribution(text[0][:5]).sum() == pytest.approx(1, abs=1e-9)


def test_max_tokens_takes_whole_documents(tokens: Artifact, tmp_path: Path) -> None:
    outcome, _ = run(tokens, tmp_path, order=2, max_tokens=1000)
    shards = TokenShards.open(tokens.path, "train")
    assert outcome.facts["tokens"] <= 1000 < outcome.facts["tokens"] + 500
    assert outcome.facts["tokens"] in shards.documents_starts.tolist()


def test_plan_is_near_the_truth(tokens: Artifact, tmp_path: Path) -> None:
    specs = {"tokens": TokensSpec.model_validate(tokens.manifest.spec)}
    plan = STAGE.plan(SETTINGS(order=5, arpa=True), specs, DEVICE)
    outcome, _ = run(tokens, tmp_path, order=5)
    assert 1 / 2.5 < plan.spec.n_parameters / outcome.spec.n_parameters < 2.5
    assert plan.spec.config == outcome.spec.config and plan.spec.format == outcome.spec.format
    train = specs["tokens"].splits["train"].tokens
    assert plan.estimate.seconds.value == pytest.approx(0.2 + train / 1e6)
    less = STAGE.plan(SETTINGS(max_memory="1MB"), specs, DEVICE).estimate.peak_memory.value
    assert less < plan.estimate.peak_memory.value
    assert not STAGE.plan(
        SETTINGS(), specs, SimpleNamespace(process_bytes=1, rate=lambda n: None)
    ).estimate.seconds.known


def test_planned_size_of_the_file_is_exact_when_the_ngrams_are(tokens: Artifact, tmp_path: Path) -> None:
    outcome, _ = run(tokens, tmp_path, order=3)
    sizes = list(outcome.facts["ngrams"].values())
    planned = _spec(SETTINGS(order=3), 400, sizes)
    # the header's figures may have a digit more or less
    assert abs(planned.weight_bytes - outcome.spec.weight_bytes) <= 8


def test_expected_ngrams_of_shakespeare() -> None:
    """Distinct n-grams really found in 1.1 million characters, and in byte-level BPE of the same text."""
    found = {
        (65, 1_115_394): [0.001, 0.01, 0.045, 0.126, 0.254, 0.401],
        (1024, 428_769): [0.137, 0.544, 0.796, 0.9, 0.946, 0.969],
        (8192, 283_367): [0.4, 0.805, 0.948, 0.984, 0.995, 0.998],
        (8192, 28_336): [0.621, 0.901, 0.974, 0.993, 0.998, 0.999],
    }
    for (vocab_size, n_tokens), shares in found.items():
        for expected, share in zip(expected_ngrams(7, n_tokens, vocab_size)[1:], shares, strict=True):
            assert abs(math.log(expected / n_tokens / share)) < math.log(1.25 if share > 0.5 else 2.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 8}, "less than or equal to 7"),
        ({"prune": [1]}, "should begin with 0"),
        ({"prune": [0, 2, 1]}, "should not decrease"),
        ({"prune": [0, -1]}, "not be below 0"),
        ({"smoothing": "kneser"}, "did you mean 'kneser_ney'"),
        ({"smoothing_weight": 0.5}, "has no weight"),
        ({"max_memory": "much"}, "byte"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SETTINGS(**settings)


def test_probe_measures_a_rate() -> None:
    assert STAGE.probe()[RATE].per_s > 10_000


def test_no_text_is_one_line(tokens: Artifact, tmp_path: Path) -> None:
    empty = SimpleNamespace(n_tokens=0)
    with pytest.raises(ArrieroError, match="no training text"):
        _last_document(empty, 0)  # type: ignore[arg-type]
