"""The stage ``pretrain``: a decoder of the Llama 3 type from token shards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile, Rate, load_profile
from arriero.errors import ArrieroError
from arriero.models.config import DecoderConfig
from arriero.stage import (
    Context,
    Input,
    Inputs,
    Outcome,
    Plan,
    Specs,
    Stage,
    TokenSplitSpec,
    TokensSpec,
    register,
)
from arriero.training.duration import DurationText
from arriero.training.precision import choose_arithmetic, kept_arithmetic
from arriero.training.settings import TrainSettings

if TYPE_CHECKING:
    from arriero.data.shards import TokenShards
    from arriero.training.objectives.causal import CausalObjective

TRAIN, VALIDATION = "train", "validation"


class PretrainSettings(TrainSettings):
    """Shape of the model, and how it is trained."""

    d_model: int = Field(default=256, ge=2, description="width of the model")
    n_layers: int = Field(default=6, ge=1, description="decoder blocks")
    n_heads: int = Field(default=4, ge=1, description="attention heads")
    n_kv_heads: int = Field(
        default=2, ge=1, description="heads of keys and values; n_heads is a multiple of it"
    )
    d_ff: int = Field(default=0, ge=0, description="width of the feed-forward layer; 0 = 8/3 d_model, by 32")
    context_length: int = Field(
        default=256, ge=2, description="tokens of a training window, the model's context"
    )
    rope_theta: float = Field(default=500000.0, gt=0, description="base of the rotary frequencies")
    tie_embeddings: bool = Field(default=True, description="the head uses the embedding's table")
    document_mask: bool = Field(
        default=True, description="attention stays inside a document; false lets it see others in the window"
    )
    duration: DurationText = Field(default="1 epochs", description="'2e6 tokens', '3 epochs' or '500 steps'")

    @model_validator(mode="after")
    def _shape_fits(self) -> PretrainSettings:
        self.config(vocab_size=1)
        return self

    def config(self, vocab_size: int) -> DecoderConfig:
        """The model's configuration.

        Raises:
            ValueError: the sizes do not fit each other.
        """
        try:
            return DecoderConfig.model_validate(
                {
                    "vocab_size": vocab_size, "d_model": self.d_model, "n_layers": self.n_layers,
                    "n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads, "d_ff": self.d_ff or _d_ff(self.d_model),
                    "context_length": self.context_length, "rope_theta": self.rope_theta,
                    "tie_embeddings": self.tie_embeddings,
                }
            )  # fmt: skip
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _d_ff(d_model: int) -> int:
    """8/3 of the width, to the nearest multiple of 32: as many parameters as a plain layer of four times the width."""
    return max(32, round(8 * d_model / 3 / 32) * 32)


@register
class Pretrain(Stage[PretrainSettings]):
    """Train a Llama-3-type decoder (RMSNorm, RoPE, SwiGLU, grouped-query attention) from random weights.

    The tokens' documents are packed into windows of context_length tokens; every token but a document's first is
    predicted from those before it. AdamW, with the learning rate warmed up and then lowered. The run saves its state
    as it goes: after a kill the same command goes on and ends with the same bits.
    """

    kind = "pretrain"
    version = 1
    makes = "model"
    inputs = {"tokens": Input("tokens", "packed token shards, with their tokenizer")}
    help = "train a language model from scratch"
    Settings = PretrainSettings

    def plan(self, settings: PretrainSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.training.loop import run_length
        from arriero.training.model_folder import planned_model_spec
        from arriero.training.plan import plan_training, run_load
        from arriero.training.traced import Work

        tokens: TokensSpec = specs["tokens"]
        config, length = settings.config(tokens.vocab_size), settings.context_length
        objective = _planned_objective(tokens.splits[TRAIN], settings)
        if not len(objective):
            raise ArrieroError(_too_short(TRAIN, tokens.splits[TRAIN].tokens, length))
        heldout = _planned_objective(tokens.splits.get(VALIDATION), settings)
        precision = choose_arithmetic(settings, device).precision
        load = run_load(settings, objective, heldout, seed=0, typical_steps=1)
        estimate = plan_training(Work(config, objective, settings, precision), load, device)
        spec = planned_model_spec(config)
        steps, samples = run_length(settings, objective)
        note = (
            f"{spec.n_parameters:,} parameters, {steps:,} steps of {settings.batch_size} x {length} tokens in "
            f"{precision} ({samples * length:,} tokens, {samples / len(objective):.2f} epochs)"
        )
        return Plan(spec, estimate, [note])

    def run(self, settings: PretrainSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.data.shards import TokenShards
        from arriero.data.tokenize import tokenizer_folder
        from arriero.models.decoder import Decoder
        from arriero.tokenization.tokenizer import Tokenizer
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.model_folder import write_model_folder
        from arriero.training.traced import TracedFlops, Work

        artifact: Artifact = inputs["tokens"]
        tokenizer = Tokenizer.load(tokenizer_folder(artifact.path))
        splits = TokensSpec.model_validate(artifact.manifest.spec).splits
        objective = _objective(TokenShards.open(artifact.path, TRAIN), settings)
        shards = None
        if _windows(splits.get(VALIDATION), settings.context_length):
            shards = TokenShards.open(artifact.path, VALIDATION)
        else:
            context.say("the validation split does not fill a window: no held-out loss is measured")
        model = Decoder(settings.config(tokenizer.vocab_size))
        model.init_weights(context.seed)
        arithmetic = kept_arithmetic(settings, context.state)
        result = train(
            model, objective, settings, context, arithmetic=arithmetic,
            heldout=_objective(shards, settings) if shards else None,
            flops=TracedFlops(Work(model.config, objective, settings, arithmetic.precision)),
        )  # fmt: skip
        facts = training_facts(result, load_profile())
        if shards is not None:
            facts |= _heldout_facts(facts["heldout"][-1]["loss"], shards)
        facts["parameters"] = model.parameter_counts()
        return Outcome(write_model_folder(model, tokenizer, context.folder), facts)

    def probe(self) -> dict[str, Rate]:
        from arriero.training.probe import measure

        return measure()


def _windows(split: TokenSplitSpec | None, length: int) -> int:
    return max(0, split.tokens - 1) // length if split is not None else 0


def _too_short(split: str, tokens: int, length: int) -> str:
    return (
        f"the split '{split}' has about {tokens:,} tokens, which do not fill one window of {length} + 1; "
        "give more text or a shorter context_length"
    )


def _objective(shards: TokenShards, settings: PretrainSettings) -> CausalObjective:
    from arriero.data.shards import PackedWindows
    from arriero.training.objectives.causal import CausalObjective

    windows = PackedWindows(shards, settings.context_length)
    return CausalObjective(windows, settings.context_length, settings.document_mask)


def _planned_objective(split: TokenSplitSpec | None, settings: PretrainSettings) -> CausalObjective:
    from arriero.training.objectives.causal import CausalObjective, PlannedWindows

    length = settings.context_length
    return CausalObjective(PlannedWindows(_windows(split, length), length), length, settings.document_mask)


def _heldout_facts(loss: float, shards: TokenShards) -> dict[str, Any]:
    """Loss in nats a token, and in bits a byte of text, which does not depend on the tokenizer."""
    scored_per_byte = (shards.n_tokens - shards.n_documents) / max(1, shards.bytes)
    return {
        "heldout_nats_per_token": loss,
        "heldout_bits_per_byte": loss / math.log(2) * scored_per_byte,
        "heldout_formula": "nats a scored token / ln 2 x scored tokens a byte of the validation split; every token "
        "is scored but a document's first, within its window of context",
    }
