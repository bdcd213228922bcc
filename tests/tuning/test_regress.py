"""The stage ``regress``: places told from texts, in their own units, and distances on the sphere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from arriero.artifacts import Artifact, Manifest
from arriero.data.numbered_texts import read_numbered_texts
from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model, save_model
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.stage import ModelSpec, get_stage, open_input
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tokenization.wordpiece_train import train_wordpiece
from arriero.tuning.regress import RegressSettings, distance_km

from ..training.conftest import RunContext
from ..training.test_pretrain import gflop_device  # noqa: F401 - a fixture

STAGE = get_stage("regress")
TOWNS = {"milano": (9.19, 45.46), "roma": (12.48, 41.89), "napoli": (14.27, 40.85), "torino": (7.69, 45.07)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Texts that name a town; its place is told with a little noise."""
    rng = np.random.default_rng(0)
    path = tmp_path / "tweets.jsonl"
    with path.open("w") as file:
        for number in range(300):
            town = list(TOWNS)[number % 4]
            longitude, latitude = (float(v + rng.normal() * 0.05) for v in TOWNS[town])
            row = {"text": f"today {number} we are in {town} again", "lon": longitude, "lat": latitude}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def body(tmp_path: Path, data: Path) -> Artifact:
    tokenizer = train_wordpiece([row.text for row in read_numbered_texts(data, "text", ["lon"])], 120)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=24, n_layers=1, n_heads=2, d_ff=48, context_length=24, init_std=0.15,
        task="masked_lm",
    )  # fmt: skip
    model = Encoder(config)
    model.init_weights(0)
    folder = tmp_path / "body"
    save_model(model, folder)
    tokenizer.save(folder)
    spec = ModelSpec(config=config.model_dump(mode="json"), n_parameters=1, weight_bytes=1)
    manifest = Manifest(
        name="body", kind="pretrain", makes="model", key="body", stage_version=1, settings={}, seed=0,
        spec=spec.model_dump(), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


def settings(data: Path, **changes: Any) -> RegressSettings:
    values = {
        "data": [data], "number_fields": ["lon", "lat"], "geographic": True, "duration": "4 epochs", "batch_size": 16,
        "learning_rate": 1e-2, "precision": "fp32", "threads": 1, "license": "CC0-1.0", **changes,
    }  # fmt: skip
    return RegressSettings.model_validate(values)


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_places_are_told_in_degrees(data: Path, body: Artifact, tmp_path: Path, loss: str) -> None:
    context = RunContext(tmp_path / "run")
    outcome = STAGE.run(settings(data, loss=loss), {"model": body}, context)
    km = outcome.facts["heldout_numbers"]["km"]
    assert km["model"] < km["mean"] / 4
    model, tokenizer = load_model(context.folder), Tokenizer.load(context.folder)
    told = model.classify([tokenizer.encode("today 7 we are in roma again", bos=True, eos=True)])[0]
    assert np.abs(told - TOWNS["roma"]).max() < 1.0
    assert model.config.label_names == ("lon", "lat") and model.config.problem == "regression"
    assert outcome.licenses[0].name == "CC0-1.0" and context.flops > 0


def test_the_plan_foresees_the_model(data: Path, body: Artifact, tmp_path: Path, gflop_device: Any) -> None:  # noqa: F811
    plan = STAGE.plan(settings(data), {"model": open_input(body, ModelSpec)}, gflop_device)
    made = STAGE.run(settings(data), {"model": body}, RunContext(tmp_path / "run"))
    assert plan.spec.n_parameters == made.spec.n_parameters
    # the texts are shorter in tokens than English is with so small a vocabulary
    assert made.facts["flops"] < plan.estimate.flops.value < 4 * made.facts["flops"]


def test_distances_between_known_cities() -> None:
    """Great circles on the mean sphere: Milan to Rome 477 km, London to New York 5,570 km, a quarter of the globe."""
    a = np.array([[9.19, 45.4642], [-0.1278, 51.5074], [0.0, 0.0]])
    b = np.array([[12.4964, 41.9028], [-74.0060, 40.7128], [0.0, 90.0]])
    found = distance_km(a, b)
    assert found[:2] == pytest.approx([477.0, 5570.2], abs=1.0)
    assert found[2] == pytest.approx(np.pi / 2 * 6371.0088)


def test_bad_rows_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for text, says in [
        ('{"tekst": "a", "lon": 1}', "line 1: no text in a field 'text'"),
        ('{"text": "a", "lon": "east"}', "lon should be a finite number"),
        ('{"text": "a", "lom": 1}', "none of the numbers lon"),
        ("", "is empty"),
    ]:
        path.write_text(text + "\n")
        with pytest.raises(ArrieroError, match=says):
            read_numbered_texts(path, "text", ["lon"])
    path.write_text('{"text": "a", "lon": null, "lat": 2}\n')
    numbers = read_numbered_texts(path, "text", ["lon", "lat"])[0].numbers
    assert np.isnan(numbers[0]) and numbers[1] == 2


@pytest.mark.parametrize(
    "wrong", [{"number_fields": ["lon"]}, {"number_fields": ["lon", "lon"]}, {"huber_delta": 2.0}]
)
def test_settings_that_make_no_sense_are_refused(data: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(data, **wrong)
