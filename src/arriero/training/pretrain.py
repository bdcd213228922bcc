"""The stage ``pretrain``: a language model of any family from token shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

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
from arriero.training.dial import dialled
from arriero.training.dial import note as dial_note
from arriero.training.duration import MULTIPLE, Duration, DurationText, Warmup
from arriero.training.encoder_settings import MaskingSettings, encoder_config, is_encoder
from arriero.training.precision import choose_arithmetic, kept_arithmetic
from arriero.training.tasks import TaskSettings, in_run_tasks

if TYPE_CHECKING:
    from arriero.data.mixed_windows import SplitWindows
    from arriero.models.config import ModelConfig
    from arriero.training.heldout import HeldOutSource
    from arriero.training.length_warmup import LengthWarmup
    from arriero.training.objectives.causal import CausalObjective, Windows

TRAIN, VALIDATION = "train", "validation"
_SHORTEST = 8
"""Where the settings leave it open, the first rows are the window over this."""


class PretrainSettings(ArchitectureSettings, MaskingSettings, TaskSettings):
    """The model, and how it is trained."""

    document_mask: bool = Field(
        default=True,
        description="nothing is seen across a document's start; false lets a token see the documents before its own "
        "(encoders: rows of whole sentences of one document, or windows of all the text)",
    )
    duration: DurationText = Field(
        default="1 epochs",
        description="'2e6 tokens', '3 epochs', '500 steps', '20 x parameters' (tokens for each parameter of the model), "
        "'100 cpu-seconds' (of the training steps) or '1 h'",
    )
    length_warmup: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="windows are cut into shorter rows over the first share of the run, e.g. 0.2: of length_start tokens, "
        "then twice as many, and so on; 0 = whole windows from the start",
    )
    length_start: int = Field(
        default=0, ge=0, description="rows that length_warmup begins with; 0 = an eighth of the window"
    )

    @model_validator(mode="after")
    def _rows_grow(self) -> PretrainSettings:
        if self.length_start and not self.length_warmup:
            raise ValueError("length_start is for rows that grow: give length_warmup too, e.g. 0.2")
        if self.wants_tasks and is_encoder(self):
            raise ValueError(
                "eval_prompts, eval_conversations and eval_preferences are for models that tell the next token"
            )
        if not self.length_warmup:
            return self
        if is_encoder(self):
            raise ValueError(
                "length_warmup cuts windows of running text; an encoder's rows are whole sentences"
            )
        config = self.config(vocab_size=1)
        if self.streams(config):
            raise ValueError(
                "length_warmup is not for streams, whose state goes on from window to window anyway"
            )
        self.growing_rows(config)
        return self

    def growing_rows(self, config: ModelConfig) -> LengthWarmup | None:
        """How rows grow; None where they are whole windows throughout.

        Raises:
            ValueError: the window is not length_start doubled again and again.
        """
        if not self.length_warmup:
            return None
        from arriero.training.length_warmup import LengthWarmup

        full = self.window_length(config)
        return LengthWarmup(self.length_start or full // _SHORTEST, full, self.length_warmup)

    def config(self, vocab_size: int) -> ModelConfig:
        """The model's configuration; see ArchitectureSettings.config."""
        try:
            if is_encoder(self):
                if self.depth is not None:
                    raise ValueError("depth is a decoder's dial; for an encoder set n_layers and d_model")
                return encoder_config(self, vocab_size)
        except ArrieroError as error:
            raise ValueError(str(error)) from None
        config = super().config(vocab_size)
        self.refuse_masking(config.family)
        return config


@register
class Pretrain(Stage[PretrainSettings]):
    """Train a language model of any family from random weights.

    Encoders (bert, roberta, albert ...) tell hidden tokens and, by their family, whether two segments belong together.
    For the others the tokens' documents are packed into windows of context_length tokens; every token but a document's first is
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
        settings = _settled(settings, specs["tokens"])
        if is_encoder(settings):
            _refuse_mixture(specs["tokens"], "an encoder", True)
            from arriero.training.masked_pretrain import plan_encoder

            return plan_encoder(settings, specs, device)
        from arriero.training.budget import run_length
        from arriero.training.model_folder import planned_model_spec
        from arriero.training.objectives.causal import PlannedWindows
        from arriero.training.plan import forecast, run_load
        from arriero.training.traced import Work

        tokens: TokensSpec = specs["tokens"]
        config = settings.config(tokens.vocab_size)
        length = settings.window_length(config)
        n_windows = _pass_windows(tokens, length)
        if not n_windows:
            raise ArrieroError(_too_short(TRAIN, tokens.splits[TRAIN].tokens, length))
        _refuse_mixture(tokens, "streams", settings.streams(config))
        objective = _objective(PlannedWindows(n_windows, length), settings, config)
        held = _held_windows(settings, tokens, length)
        heldout = _objective(PlannedWindows(held, length), settings, config, heldout=True)
        precision = choose_arithmetic(settings, device).precision
        scored = {"eval_samples": held} if tokens.mixture else {}  # so many of each source, not in all
        load = run_load(settings.model_copy(update=scored), objective, heldout, seed=0, typical_steps=1)
        found = forecast(Work(config, objective, settings, precision), load, device)
        spec = planned_model_spec(config)
        timed = Duration.parse(settings.duration).timed
        samples = found.steps * settings.batch_size if timed else run_length(settings, objective)[1]
        grows = "up to " if Warmup.parse(settings.batch_warmup).amount else ""
        note = (
            f"{spec.n_parameters:,} parameters, {'about ' if timed else ''}{found.steps:,} steps of "
            f"{grows}{settings.batch_size} x {length} tokens in {precision} ({samples * length:,} tokens, "
            f"{samples / len(objective):.2f} epochs)"
        )
        notes = [note] if settings.depth is None else [note, dial_note(settings, config)]
        return Plan(spec, found.estimate, [*notes, *found.notes])

    def run(self, settings: PretrainSettings, inputs: Inputs, context: Context) -> Outcome:
        settings = _settled(settings, TokensSpec.model_validate(inputs["tokens"].manifest.spec))
        if is_encoder(settings):
            from arriero.training.masked_pretrain import train_encoder

            return train_encoder(settings, inputs, context)
        from arriero.data.mixed_windows import open_windows
        from arriero.data.tokenize import tokenizer_folder
        from arriero.models.checkpoint import build_model
        from arriero.tokenization.tokenizer import Tokenizer
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.model_folder import write_model_folder
        from arriero.training.traced import TracedFlops, Work

        artifact: Artifact = inputs["tokens"]
        tokenizer = Tokenizer.load(tokenizer_folder(artifact.path))
        tokens = TokensSpec.model_validate(artifact.manifest.spec)
        config = settings.config(tokenizer.vocab_size)
        length = settings.window_length(config)
        objective = _objective(open_windows(artifact.path, TRAIN, length).windows, settings, config)
        heldout: dict[str, HeldOutSource] = {}
        if _held_windows(settings, tokens, length):
            heldout = _held_out(open_windows(artifact.path, VALIDATION, length), tokens, settings, config)
        else:
            context.say("the validation split does not fill a window: no held-out loss is measured")
        model = build_model(config)
        model.init_weights(context.seed)
        arithmetic = kept_arithmetic(settings, context.state)
        result = train(
            model, objective, settings, context, arithmetic=arithmetic,
            heldout=heldout, flops=TracedFlops(Work(model.config, objective, settings, arithmetic.precision)),
            tasks=in_run_tasks(settings, tokenizer, getattr(config, "context_length", None), chat=False),
        )  # fmt: skip
        facts = training_facts(result, load_profile())
        if facts["heldout_model"]:
            facts |= _heldout_facts(facts["heldout_model"])
        facts["parameters"] = model.parameter_counts()
        return Outcome(write_model_folder(model, tokenizer, context.folder), facts)

    def probe(self) -> dict[str, Rate]:
        from arriero.training.probe import measure

        return measure()


def _settled(settings: PretrainSettings, tokens: TokensSpec) -> PretrainSettings:
    """The settings with what follows from the size of the model and of the data: a duration told in parameters, and
    the batch and learning rate of a depth."""
    if settings.depth is None and Duration.parse(settings.duration).unit != MULTIPLE:
        return settings
    from arriero.training.model_folder import planned_model_spec

    config = settings.config(tokens.vocab_size)
    parameters, given = planned_model_spec(config).n_parameters, settings.model_fields_set
    told = settings.for_model(parameters)
    if told.depth is None:
        return told
    length = settings.window_length(config)
    return dialled(told, parameters, length, _windows(tokens.splits[TRAIN], length), given)


def _windows(split: TokenSplitSpec | None, length: int) -> int:
    return max(0, split.tokens - 1) // length if split is not None else 0


def _pass_windows(tokens: TokensSpec, length: int) -> int:
    """Windows of one pass over the training split, or over a mixture."""
    if not tokens.mixture:
        return _windows(tokens.splits[TRAIN], length)
    from arriero.data.mixed_windows import pass_length

    sizes = [_windows(source.splits.get(TRAIN), length) for source in tokens.mixture.values()]
    return pass_length(sizes, tokens.pass_epochs) if any(sizes) else 0


def _held_windows(settings: PretrainSettings, tokens: TokensSpec, length: int) -> int:
    """Held-out windows of all sources that one evaluation scores at most (of a single source: all there are)."""
    if not tokens.mixture:
        return _windows(tokens.splits.get(VALIDATION), length)
    sizes = [_windows(source.splits.get(VALIDATION), length) for source in tokens.mixture.values()]
    return sum(min(size, settings.eval_samples or size) for size in sizes)


def _refuse_mixture(tokens: TokensSpec, what: str, applies: bool) -> None:
    if applies and tokens.mixture:
        raise ArrieroError(f"{what} cannot be trained on a mixture with shares; give one token set")


def _held_out(
    split: SplitWindows, tokens: TokensSpec, settings: PretrainSettings, config: ModelConfig
) -> dict[str, HeldOutSource]:
    """What is scored of each source."""
    from arriero.training.heldout import HeldOutSource

    return {
        name: HeldOutSource(
            _objective(windows, settings, config, heldout=True),
            tokens.mixture[name].share if name in tokens.mixture else 1.0,
            split.shards[name].scored_per_byte,
        )
        for name, windows in split.by_source.items()
    }


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
        rows = None if heldout else settings.growing_rows(config)
        return CausalObjective(windows, length, settings.document_mask, rows)
    if not heldout:
        return StreamObjective(windows, length, settings.document_mask, settings.batch_size)
    samples = min(len(windows), settings.eval_samples or len(windows))
    streams = max(1, min(settings.batch_size, samples))
    return StreamObjective(windows, length, settings.document_mask, streams, samples)


def _heldout_facts(scored: dict[str, Any]) -> dict[str, Any]:
    """Loss in nats a token, and in bits a byte of text, which does not depend on the tokenizer."""
    return {
        "heldout_nats_per_token": scored["loss"],
        "heldout_bits_per_byte": scored["bits_per_byte"],
        "heldout_formula": "nats a scored token / ln 2 x scored tokens a byte of the validation split; every token "
        "is scored but a document's first, within its window of context; of a mixture: the mean by the sources' shares",
    }
