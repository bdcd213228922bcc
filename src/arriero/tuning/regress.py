"""The stage ``regress``: an encoder learns to tell numbers from texts (a place on the map, a score)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from arriero.cost.device import DeviceProfile, load_profile
from arriero.errors import ArrieroError
from arriero.stage import Context, Input, Inputs, ModelSpec, Outcome, Plan, Specs, Stage, register
from arriero.training.duration import DurationText, WarmupText
from arriero.training.file_data import FileDataSettings
from arriero.training.precision import choose_arithmetic, kept_arithmetic

if TYPE_CHECKING:
    import numpy as np

    from arriero.data.numbered_texts import NumberedText
    from arriero.models.encoder_config import EncoderConfig
    from arriero.tokenization.tokenizer import Tokenizer
    from arriero.training.objectives.regression import Numbered, RegressionObjective

EARTH_KM = 6371.0088
"""Mean radius (IUGG)."""


class RegressSettings(FileDataSettings):
    """The texts and their numbers, and how the model is trained."""

    text_field: str = Field(default="text", min_length=1, description="key of the text")
    number_fields: list[str] = Field(min_length=1, description="keys of the numbers, e.g. [longitude, latitude]")  # fmt: skip
    holdout_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of the texts held out, chosen by a hash of the text"
    )
    max_length: int = Field(
        default=0, ge=0, description="longest text in tokens, longer ones are cut; 0 = what the model takes"
    )
    loss: Literal["squared", "absolute", "huber"] = Field(
        default="squared", description="of the numbers over their standard deviations"
    )
    huber_delta: float = Field(
        default=1.0, gt=0, description="error from which on Huber's loss is linear, in standard deviations"
    )
    geographic: bool = Field(
        default=False,
        description="the numbers are longitude and latitude in degrees: held-out distances in km are told",
    )
    duration: DurationText = Field(default="3 epochs", description="'2e6 tokens', '3 epochs' or '500 steps'")
    learning_rate: float = Field(default=1e-4, gt=0, lt=10, description="peak learning rate")
    warmup: WarmupText = Field(default="10 %", description="linear warm-up: a share of the run ('2 %') or '100 steps'")  # fmt: skip

    @model_validator(mode="after")
    def _numbers_fit(self) -> RegressSettings:
        if len(set(self.number_fields)) < len(self.number_fields) or self.text_field in self.number_fields:
            raise ValueError("number_fields and text_field should all be different")
        if self.geographic and len(self.number_fields) != 2:
            raise ValueError(
                f"geographic wants longitude and latitude, not {len(self.number_fields)} numbers"
            )
        if self.loss != "huber" and self.huber_delta != type(self).model_fields["huber_delta"].default:
            raise ValueError(f"huber_delta is for loss huber, not {self.loss}")
        return self


@register
class Regress(Stage[RegressSettings]):
    """Fine-tune an encoder to tell one or more numbers from a text (Salogni, GeoLingIt 2023: where a tweet was written).

    A fresh linear layer on the body tells the numbers over their standard deviations; when training is over it is scaled,
    so that the model tells them in their own units. All weights are trained.
    """

    kind = "regress"
    version = 1
    makes = "model"
    inputs = {"model": Input("model", "an encoder with its tokenizer")}
    help = "teach an encoder to tell numbers from texts"
    Settings = RegressSettings

    def plan(self, settings: RegressSettings, specs: Specs, device: DeviceProfile) -> Plan:
        import numpy as np

        from arriero.training.model_folder import planned_model_spec
        from arriero.training.objectives.regression import Numbered
        from arriero.training.plan import plan_training, run_load
        from arriero.training.planned_rows import bytes_per_token
        from arriero.training.traced import Work

        model: ModelSpec = specs["model"]
        config = _config(settings, model.config)
        longest, ratio = _longest(settings, config), bytes_per_token(config.vocab_size)

        def planned(item: NumberedText) -> Numbered:
            length = min(longest, 2 + math.ceil(len(item.text.encode()) / ratio))
            return Numbered(np.zeros(length, dtype=np.int64), np.array(item.numbers))

        train, held = (_objective([planned(i) for i in part], settings, 0) for part in _split(settings))
        precision = choose_arithmetic(settings, device).precision
        load = run_load(settings, train, held, settings.seed or 0)
        spec = planned_model_spec(config)
        note = (
            f"{len(train):,} texts, {len(held):,} held out, about {train.tokens_per_sample():.0f} tokens each"
        )
        return Plan(spec, plan_training(Work(config, train, settings, precision), load, device), [note])

    def run(self, settings: RegressSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.models.checkpoint import load_model
        from arriero.models.encoder_task import with_task
        from arriero.tokenization.tokenizer import Tokenizer
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.model_folder import write_model_folder
        from arriero.training.traced import TracedFlops, Work

        path = inputs["model"].path
        body, tokenizer = load_model(path, dtype="float32"), Tokenizer.load(path)
        config = _config(settings, body.config.model_dump())
        model = with_task(
            body, config.task, context.seed, problem=config.problem, n_labels=config.n_labels,
            label_names=config.label_names,
        )  # fmt: skip
        longest = _longest(settings, config)
        parts = [_encode(part, tokenizer, longest) for part in _split(settings)]
        mean, deviation = _scale([item.numbers for item in parts[0]])
        objective, heldout = (
            _objective([_scaled(item, mean, deviation) for item in part], settings, tokenizer.pad_id)
            for part in parts
        )
        arithmetic = kept_arithmetic(settings, context.state)
        work = Work(config, objective, settings, arithmetic.precision)
        result = train(
            model, objective, settings, context, arithmetic=arithmetic, heldout=heldout, flops=TracedFlops(work)
        )  # fmt: skip
        _to_own_units(model, mean, deviation)
        facts: dict[str, Any] = training_facts(result, load_profile())
        facts["data"] = {"texts": len(parts[0]), "heldout": len(parts[1])}
        facts["parameters"] = model.parameter_counts()
        if parts[1]:
            facts["heldout_numbers"] = _scores(model, parts[1], mean, settings)
            context.say(_told(facts["heldout_numbers"], settings))
        return Outcome(write_model_folder(model, tokenizer, context.folder), facts, settings.licenses())


def _config(settings: RegressSettings, values: dict[str, Any]) -> EncoderConfig:
    """The model's configuration with a head that tells the numbers.

    Raises:
        ArrieroError: it is no encoder.
    """
    from arriero.models.checkpoint import parse_config
    from arriero.models.encoder_config import EncoderConfig

    config = parse_config(values, "the model")
    if not isinstance(config, EncoderConfig):
        raise ArrieroError(f"regress is for encoders; the model is of the family {config.family}")
    fields = {
        "task": "sequence_classification", "problem": "regression", "n_labels": len(settings.number_fields),
        "label_names": tuple(settings.number_fields),
    }  # fmt: skip
    return EncoderConfig.parse({**config.model_dump(), **fields}, "the model")


def _longest(settings: RegressSettings, config: EncoderConfig) -> int:
    """
    Raises:
        ArrieroError: ``max_length`` is more than the model takes.
    """
    most = config.longest or config.context_length
    if settings.max_length > most:
        raise ArrieroError(f"max_length {settings.max_length} is more than the model's {most} tokens")
    return settings.max_length or most


def _split(settings: RegressSettings) -> tuple[list[NumberedText], list[NumberedText]]:
    """(train, held-out) texts of all files; equal texts stay together."""
    from arriero.data.conversations import is_held_out
    from arriero.data.numbered_texts import read_numbered_texts

    texts = [
        item
        for path in settings.data
        for item in read_numbered_texts(path, settings.text_field, settings.number_fields)
    ]
    held = [is_held_out(item.text, settings.holdout_share, settings.holdout_seed) for item in texts]
    parts = [[item for item, out in zip(texts, held, strict=True) if out is which] for which in (False, True)]
    if not parts[0]:
        raise ArrieroError(f"all {len(texts)} texts are held out; lower holdout_share")
    return parts[0], parts[1]


def _encode(items: Sequence[NumberedText], tokenizer: Tokenizer, longest: int) -> list[Numbered]:
    """Texts as ``[CLS] tokens [SEP]``, cut to length."""
    import numpy as np

    from arriero.training.objectives.regression import Numbered

    return [
        Numbered(np.array([tokenizer.bos_id, *ids[: longest - 2], tokenizer.eos_id]), np.array(item.numbers))
        for ids, item in zip(tokenizer.encode_batch([item.text for item in items]), items, strict=True)
    ]


def _scale(numbers: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) of each number over the texts that have it; a deviation of 0 becomes 1."""
    import numpy as np

    table = np.stack(numbers)
    known = ~np.isnan(table)
    count = np.maximum(1, known.sum(0))
    mean = np.where(known, table, 0.0).sum(0) / count
    deviation = np.sqrt(np.where(known, (table - mean) ** 2, 0.0).sum(0) / count)
    return mean, np.where(deviation > 0, deviation, 1.0)


def _scaled(item: Numbered, mean: np.ndarray, deviation: np.ndarray) -> Numbered:
    from dataclasses import replace

    return replace(item, numbers=(item.numbers - mean) / deviation)


def _objective(items: Sequence[Numbered], settings: RegressSettings, pad_id: int) -> RegressionObjective:
    from arriero.training.objectives.regression import RegressionObjective

    return RegressionObjective(
        items, len(settings.number_fields), pad_id, loss=settings.loss, delta=settings.huber_delta
    )  # fmt: skip


def _to_own_units(model: Any, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Scale the last layer, which told the numbers less their mean over their deviation."""
    import torch

    out = model.head.out
    with torch.no_grad():
        scale = torch.as_tensor(deviation, dtype=out.weight.dtype, device=out.weight.device)
        out.weight.mul_(scale[:, None])
        out.bias.mul_(scale).add_(torch.as_tensor(mean, dtype=out.bias.dtype, device=out.bias.device))


def _scores(
    model: Any, items: Sequence[Numbered], mean: np.ndarray, settings: RegressSettings
) -> dict[str, Any]:
    """Mean absolute errors on held-out texts in the numbers' units, beside those of the training texts' mean."""
    import numpy as np

    found = np.stack(model.classify([item.ids.tolist() for item in items]))
    wanted = np.stack([item.numbers for item in items])
    errors = {
        name: {"model": _mean(np.abs(found - wanted)[:, i]), "mean": _mean(np.abs(mean - wanted)[:, i])}
        for i, name in enumerate(settings.number_fields)
    }
    scores: dict[str, Any] = {"texts": len(items), "absolute_error": errors}
    if settings.geographic:
        guess = np.broadcast_to(mean, wanted.shape)
        scores["km"] = {"model": _mean(distance_km(found, wanted)), "mean": _mean(distance_km(guess, wanted))}
    return scores


def _mean(values: np.ndarray) -> float | None:
    known = values[values == values]
    return float(known.mean()) if len(known) else None


def distance_km(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Great-circle distances [N] between places [N, 2], longitude and latitude in degrees (haversine formula)."""
    import numpy as np

    (lon_a, lat_a), (lon_b, lat_b) = np.radians(a).T, np.radians(b).T
    h = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    return np.asarray(2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(h, 0, 1))))


def _told(found: dict[str, Any], settings: RegressSettings) -> str:
    if settings.geographic:
        return f"held-out texts lie {found['km']['model']:.1f} km off on the average; their middle {found['km']['mean']:.1f} km"
    errors = (
        f"{name} {e['model']:.4g} (their mean {e['mean']:.4g})"
        for name, e in found["absolute_error"].items()
        if e["model"] is not None
    )
    return "held-out absolute errors: " + ", ".join(errors)
