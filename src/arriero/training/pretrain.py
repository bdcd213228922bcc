"""The stage ``pretrain``: a causal language model of any family from token shards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile, Rate, load_profile
from arriero.errors import ArrieroError
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
from arriero.training.architecture import ArchitectureSettings
from arriero.training.duration import Duration, DurationText
from arriero.training.precision import choose_arithmetic, kept_arithmetic

if TYPE_CHECKING:
    from arriero.data.shards import TokenShards
    from arriero.models.config import ModelConfig
    from arriero.training.objectives.causal import CausalObjective, Windows

TRAIN, VALIDATION = "train", "validation"


class PretrainSettings(ArchitectureSettings):
    """The model, and how it is trained."""

    document_mask: bool = Field(
        default=True,
        description="nothing is seen across a document's start; false lets a token see the documents before its own",
    )
    duration: DurationText = Field(
        default="1 epochs",
        description="'2e6 tokens', '3 epochs', '500 steps', '100 cpu-seconds' (of the training steps) or '1 h'",
    )


@register
class Pretrain(Stage[PretrainSettings]):
    """Train a language model of any family that tells the next token, from random weights.

    The tokens' documents are packed into windows of context_length tokens; every token but a document's first is
    predicted from those before it. Recurrent families read the text as batch_size parallel streams and carry their
    state from window to window; the others see the windows in random order. AdamW, with the learning rate warmed up
    and then lowered. The run saves its state as it goes: after a kill the same command goes on and ends with the same
    bits (where the duration is in seconds: goes on with what is left of it).
    """

    kind = "pretrain"
    version = 1
    makes = "model"
    inputs = {"tokens": Input("tokens", "packed token shards, with their tokenizer")}
    help = "train a language model from scratch"
    Settings = PretrainSettings

    def plan(self, settings: PretrainSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.training.budget import run_length
        from arriero.training.model_folder import planned_model_spec
        from arriero.training.objectives.causal import PlannedWindows
        from arriero.training.plan import forecast, run_load
        from arriero.training.traced import Work

        tokens: TokensSpec = specs["tokens"]
        config = settings.config(tokens.vocab_size)
        length = settings.window_length(config)
        n_windows = _windows(tokens.splits[TRAIN], length)
        if not n_windows:
            raise ArrieroError(_too_short(TRAIN, tokens.splits[TRAIN].tokens, length))
        objective = _objective(PlannedWindows(n_windows, length), settings, config)
        heldout_windows = PlannedWindows(_windows(tokens.splits.get(VALIDATION), length), length)
        heldout = _objective(heldout_windows, settings, config, heldout=True)
        precision = choose_arithmetic(settings, device).precision
        load = run_load(settings, objective, heldout, seed=0, typical_steps=1)
        found = forecast(Work(config, objective, settings, precision), load, device)
        spec = planned_model_spec(config)
        timed = Duration.parse(settings.duration).timed
        samples = found.steps * settings.batch_size if timed else run_length(settings, objective)[1]
        note = (
            f"{spec.n_parameters:,} parameters, {'about ' if timed else ''}{found.steps:,} steps of "
            f"{settings.batch_size} x {length} tokens in {precision} ({samples * length:,} tokens, "
            f"{samples / len(objective):.2f} epochs)"
        )
        return Plan(spec, found.estimate, [note])

    def run(self, settings: PretrainSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.data.shards import PackedWindows, TokenShards
        from arriero.data.tokenize import tokenizer_folder
        from arriero.models.checkpoint import build_model
        from arriero.tokenization.tokenizer import Tokenizer
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.model_folder import write_model_folder
        from arriero.training.traced import TracedFlops, Work

        artifact: Artifact = inputs["tokens"]
        tokenizer = Tokenizer.load(tokenizer_folder(artifact.path))
        splits = TokensSpec.model_validate(artifact.manifest.spec).splits
        config = settings.config(tokenizer.vocab_size)
        length = settings.window_length(config)
        windows = PackedWindows(TokenShards.open(artifact.path, TRAIN), length)
        objective, heldout, shards = _objective(windows, settings, config), None, None
        if _windows(splits.get(VALIDATION), length):
            shards = TokenShards.open(artifact.path, VALIDATION)
            heldout = _objective(PackedWindows(shards, length), settings, config, heldout=True)
        else:
            context.say("the validation split does not fill a window: no held-out loss is measured")
        model = build_model(config)
        model.init_weights(context.seed)
        arithmetic = kept_arithmetic(settings, context.state)
        result = train(
            model, objective, settings, context, arithmetic=arithmetic,
            heldout=heldout, flops=TracedFlops(Work(model.config, objective, settings, arithmetic.precision)),
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


def _objective(
    windows: Windows, settings: PretrainSettings, config: ModelConfig, *, heldout: bool = False
) -> CausalObjective:
    """The objective over these windows, as the settings have it; a held-out one is as large as is evaluated."""
    from arriero.training.objectives.causal import CausalObjective
    from arriero.training.objectives.stream import StreamObjective

    length = settings.window_length(config)
    if not settings.streams(config):
        return CausalObjective(windows, length, settings.document_mask)
    if not heldout:
        return StreamObjective(windows, length, settings.document_mask, settings.batch_size)
    samples = min(len(windows), settings.eval_samples or len(windows))
    streams = max(1, min(settings.batch_size, samples))
    return StreamObjective(windows, length, settings.document_mask, streams, samples)


def _heldout_facts(loss: float, shards: TokenShards) -> dict[str, Any]:
    """Loss in nats a token, and in bits a byte of text, which does not depend on the tokenizer."""
    scored_per_byte = (shards.n_tokens - shards.n_documents) / max(1, shards.bytes)
    return {
        "heldout_nats_per_token": loss,
        "heldout_bits_per_byte": loss / math.log(2) * scored_per_byte,
        "heldout_formula": "nats a scored token / ln 2 x scored tokens a byte of the validation split; every token "
        "is scored but a document's first, within its window of context",
    }
