"""The stage ``seq2seq``: an encoder-decoder that writes a target text for a source text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, model_validator

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile, load_profile
from arriero.errors import ArrieroError
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.stage import Context, Input, Inputs, Outcome, Plan, Specs, Stage, TokenizerSpec, register
from arriero.training.duration import DurationText, WarmupText
from arriero.training.file_data import FileDataSettings
from arriero.training.precision import choose_arithmetic, kept_arithmetic
from arriero.training.settings import Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.data.pairs import TextPair
    from arriero.tokenization.tokenizer import Tokenizer
    from arriero.training.objectives.seq2seq import Pair

Family = Literal["transformer", "bart", "t5"]
_SWITCHES: dict[str, dict[str, Any]] = {
    "transformer": {},
    "bart": {"activation": "gelu", "scale_embedding": False},
    "t5": {"scale_head": True, "norm_eps": 1e-6},
}
"""What a fresh model of a family has besides what all of its models have."""


class Seq2SeqSettings(FileDataSettings):
    """Shape of the model, the pairs, and how it is trained."""

    source_field: str = Field(default="source", min_length=1, description="key of the text that is read")
    target_field: str = Field(
        default="target", min_length=1, description="key of the text that is to be written"
    )
    family: Family = Field(
        default="transformer", description="transformer = the original of 2017; bart; t5 = version 1.0"
    )
    d_model: int = Field(default=256, ge=2, description="width of the model")
    n_layers: int = Field(default=3, ge=1, description="blocks of the encoder, and of the decoder")
    n_heads: int = Field(default=4, ge=1, description="attention heads")
    d_ff: int = Field(default=0, ge=0, description="width of the feed-forward layers; 0 = 4 d_model")
    context_length: int = Field(
        default=256,
        ge=4,
        description="longest source and longest target in tokens; longer pairs are left out",
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of a branch's values set to zero in training"
    )
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="share of each target token's weight spread over the vocabulary"
    )
    duration: DurationText = Field(
        default="10 epochs", description="'2e6 tokens', '3 epochs', '500 steps' or '20 x parameters'"
    )
    schedule: Schedule = Field(
        default="inverse_sqrt", description="course of the learning rate after the warm-up"
    )
    warmup: WarmupText = Field(
        default="10 %", description="linear warm-up: a share of the run ('2 %') or '100 steps'"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, lt=10, description="decoupled weight decay, of matrices only"
    )
    beta2: float = Field(default=0.98, ge=0, lt=1, description="AdamW's decay of the mean squared gradient")
    eps: float = Field(default=1e-9, gt=0, lt=1, description="AdamW's epsilon")

    @model_validator(mode="after")
    def _shape_fits(self) -> Seq2SeqSettings:
        if self.source_field == self.target_field:
            raise ValueError(f"source_field and target_field are both '{self.source_field}'")
        self.config(vocab_size=1, pad_id=0, eos_id=0, start_id=0)
        return self

    def config(self, **vocabulary: int) -> Seq2SeqConfig:
        """The model's configuration; ``vocabulary``: vocab_size, pad_id, eos_id and start_id.

        Raises:
            ValueError: the sizes do not fit each other.
        """
        from arriero.models.families import get_family

        shape = {
            "family": self.family, "d_model": self.d_model, "encoder_layers": self.n_layers,
            "encoder_heads": self.n_heads, "encoder_d_ff": self.d_ff or 4 * self.d_model,
            "context_length": self.context_length, "dropout": self.dropout,
        }  # fmt: skip
        values = {**get_family(self.family).fixed, **_SWITCHES[self.family], **shape, **vocabulary}
        if "head_dim" not in values and self.d_model % self.n_heads == 0:
            values["head_dim"] = self.d_model // self.n_heads  # T5's files always name it
        try:
            return Seq2SeqConfig.model_validate(values)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


@register
class TrainSeq2Seq(Stage[Seq2SeqSettings]):
    """Train an encoder-decoder from random weights on pairs of texts: translation, spelling, summaries.

    The encoder reads the source, the decoder writes the target token by token; the loss is the cross-entropy of the
    target's tokens with label smoothing, the held-out loss is without. The defaults are those of the original
    Transformer (arXiv 1706.03762), at a size for two cores.
    """

    kind = "seq2seq"
    version = 1
    makes = "model"
    inputs = {"tokenizer": Input("tokenizer", "the tokenizer of sources and targets")}
    help = "train an encoder-decoder on pairs of texts"
    Settings = Seq2SeqSettings

    def plan(self, settings: Seq2SeqSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.training.model_folder import planned_model_spec
        from arriero.training.objectives.seq2seq import Seq2SeqObjective
        from arriero.training.plan import plan_training, run_load
        from arriero.training.traced import Work

        tokenizer: TokenizerSpec = specs["tokenizer"]
        config = settings.config(vocab_size=tokenizer.vocab_size, pad_id=0, eos_id=0, start_id=0)
        settings = settings.for_model(planned_model_spec(config).n_parameters)
        (train, _), (held, _) = (
            _fitting([_planned(pair, tokenizer.bytes_per_token) for pair in part], settings.context_length)
            for part in _split(settings)
        )
        _check_not_empty(train, settings)
        objective = Seq2SeqObjective(train, 0, settings.label_smoothing)
        precision = choose_arithmetic(settings, device).precision
        load = run_load(settings, objective, Seq2SeqObjective(held, 0), settings.seed or 0)
        estimate = plan_training(Work(config, objective, settings, precision), load, device)
        spec = planned_model_spec(config)
        note = (
            f"{spec.n_parameters:,} parameters; {len(train):,} pairs, {len(held):,} held out, about "
            f"{objective.tokens_per_sample():.0f} tokens each"
        )
        return Plan(spec, estimate, [note])

    def run(self, settings: Seq2SeqSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.models.seq2seq import Seq2Seq
        from arriero.tokenization.tokenizer import Tokenizer
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.model_folder import write_model_folder
        from arriero.training.objectives.seq2seq import Seq2SeqObjective
        from arriero.training.pair_flops import PairFlops
        from arriero.training.traced import Work

        artifact: Artifact = inputs["tokenizer"]
        tokenizer = Tokenizer.load(artifact.path)
        (pairs, too_long), (held, held_too_long) = (
            _fitting(_encode(part, tokenizer), settings.context_length) for part in _split(settings)
        )
        _check_not_empty(pairs, settings)
        counts = {
            "pairs": len(pairs), "too_long": too_long, "tokens": sum(map(len, pairs)),
            "target_tokens": sum(len(pair.target) for pair in pairs),
        }  # fmt: skip
        left_out = f"; {too_long:,} longer than context_length left out" if too_long else ""
        context.say(f"{len(pairs):,} pairs, {counts['tokens']:,} tokens{left_out}")
        model = Seq2Seq(
            settings.config(
                vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id, eos_id=tokenizer.eos_id,
                start_id=tokenizer.bos_id,
            )
        )  # fmt: skip
        model.init_weights(context.seed)
        settings = settings.for_model(sum(model.parameter_counts().values()))
        start = model.config.start_id
        objective = Seq2SeqObjective(pairs, start, settings.label_smoothing)
        arithmetic = kept_arithmetic(settings, context.state)
        result = train(
            model, objective, settings, context, arithmetic=arithmetic, heldout=Seq2SeqObjective(held, start),
            flops=PairFlops(Work(model.config, objective, settings, arithmetic.precision)),
        )  # fmt: skip
        facts = training_facts(result, load_profile())
        facts |= {"data": counts, "heldout_data": {"pairs": len(held), "too_long": held_too_long}}
        facts["parameters"] = model.parameter_counts()
        return Outcome(write_model_folder(model, tokenizer, context.folder), facts, settings.licenses())


def _split(settings: Seq2SeqSettings) -> tuple[list[TextPair], list[TextPair]]:
    """(train, held-out) pairs of all files."""
    from arriero.data.pairs import read_pairs, split_pairs

    pairs = [
        pair
        for path in settings.data
        for pair in read_pairs(path, settings.source_field, settings.target_field)
    ]
    train, held = split_pairs(pairs, settings.holdout_share, settings.holdout_seed)
    if not train:
        raise ArrieroError(f"all {len(held)} pairs are held out; lower holdout_share")
    return train, held


def _encode(pairs: Sequence[TextPair], tokenizer: Tokenizer) -> list[Pair]:
    """Ids of both texts, each with the end token."""
    import numpy as np

    from arriero.training.objectives.seq2seq import Pair

    sides = [tokenizer.encode_batch([pair[side] for pair in pairs]) for side in (0, 1)]
    return [
        Pair(*(np.array([*ids, tokenizer.eos_id], dtype=np.int64) for ids in both))
        for both in zip(*sides, strict=True)
    ]


def _planned(pair: TextPair, bytes_per_token: float) -> Pair:
    """Zeros, as many as the texts are likely to have tokens, with the end token."""
    import numpy as np

    from arriero.training.objectives.seq2seq import Pair

    lengths = (1 + math.ceil(len(text.encode()) / bytes_per_token) for text in pair)
    return Pair(*(np.zeros(length, dtype=np.int64) for length in lengths))


def _fitting(pairs: Sequence[Pair], context_length: int) -> tuple[list[Pair], int]:
    """The pairs that the model has positions for (the decoder reads a start token too), and how many are too long.

    They are left out and not cut: what is missing at a target's end would be learnt as its end.
    """
    kept = [
        pair for pair in pairs if len(pair.source) <= context_length and len(pair.target) < context_length
    ]
    return kept, len(pairs) - len(kept)


def _check_not_empty(pairs: Sequence[Pair], settings: Seq2SeqSettings) -> None:
    if not pairs:
        raise ArrieroError(
            f"no pair fits into a context_length of {settings.context_length}; raise it or give shorter texts"
        )
