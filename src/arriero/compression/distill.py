"""Stage ``distill``: a smaller model learns from a larger one's distribution of every next token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile, load_profile
from arriero.errors import ArrieroError
from arriero.stage import Context, Input, Inputs, ModelSpec, Outcome, Plan, Specs, Stage, TokensSpec, register
from arriero.training.architecture import ArchitectureSettings
from arriero.training.duration import DurationText
from arriero.training.precision import choose_arithmetic, kept_arithmetic
from arriero.training.settings import TrainSettings

if TYPE_CHECKING:
    from arriero.models.config import ModelConfig
    from arriero.tokenization.tokenizer import Tokenizer
    from arriero.training.objectives.causal import Windows
    from arriero.training.objectives.distil import DistilObjective

TRAIN, VALIDATION = "train", "validation"


class DistillSettings(ArchitectureSettings):
    """The student, and how it is taught."""

    temperature: float = Field(
        default=2.0,
        gt=0,
        le=100,
        description="both distributions are softened by it before they are compared",
    )
    alpha: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="weight of the text's own tokens; the rest is the teacher's; 1 = the teacher is not asked",
    )
    divergence: Literal["forward", "reverse"] = Field(
        default="forward",
        description="forward: the student covers all that the teacher may say; reverse: it keeps to what is likely",
    )
    document_mask: bool = Field(default=True, description="nothing is seen across a document's start")
    duration: DurationText = Field(
        default="1 epochs", description="'2e6 tokens', '3 epochs', '500 steps', '100 cpu-seconds' or '1 h'"
    )

    @model_validator(mode="after")
    def _no_depth(self) -> DistillSettings:
        if self.depth is not None:
            raise ValueError(
                "depth also sets batch and learning rate, for a text alone; give d_model and n_layers"
            )
        return self

    def shape_is_given(self) -> list[str]:
        """Settings of the student's shape that were given."""
        own = ArchitectureSettings.model_fields.keys() - TrainSettings.model_fields.keys()
        return sorted(
            name
            for name in own - {"context_length"}
            if getattr(self, name) != type(self).model_fields[name].default
        )


@register
class Distill(Stage[DistillSettings]):
    """Train a student on a text and on what a teacher says of every token of it.

    The loss of a token is alpha times its cross-entropy and (1 - alpha) T^2 times the divergence of the student's
    distribution from the teacher's at temperature T (Hinton et al. 2015). Teacher and student may differ in family and
    size, but must have the tokenizer of the tokens. The student is drawn fresh from its settings, or goes on from a model.
    """

    kind = "distill"
    version = 1
    makes = "model"
    inputs = {
        "teacher": Input("model", "the model to learn from"),
        "tokens": Input("tokens", "packed token shards, with the teacher's tokenizer"),
        "student": Input("model", "a model to go on from, in place of a fresh one", optional=True),
    }
    help = "train a small model on a larger one's distributions"
    Settings = DistillSettings

    def plan(self, settings: DistillSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.models.checkpoint import parse_config
        from arriero.training.model_folder import planned_model_spec
        from arriero.training.objectives.causal import PlannedWindows
        from arriero.training.plan import forecast, run_load
        from arriero.training.traced import Work

        tokens: TokensSpec = specs["tokens"]
        teacher_spec: ModelSpec = specs["teacher"]
        student_spec: ModelSpec | None = specs.get("student")
        teacher = parse_config(teacher_spec.config, "the teacher")
        config = _student_config(settings, student_spec, tokens.vocab_size)
        settings = settings.for_model(planned_model_spec(config).n_parameters)
        _refuse_mixture(tokens)
        length = _window_length(settings, config, teacher)
        sizes = {name: _n_windows(tokens, name, length) for name in (TRAIN, VALIDATION)}
        if not sizes[TRAIN]:
            raise ArrieroError(f"the split '{TRAIN}' does not fill one window of {length} + 1 tokens")
        objective, heldout = (
            _objective(PlannedWindows(sizes[name], length), settings, length) for name in (TRAIN, VALIDATION)
        )
        precision = choose_arithmetic(settings, device).precision
        load = run_load(settings, objective, heldout, seed=0, typical_steps=1)
        work = Work(config, objective, settings, precision, _teacher_beside(teacher))
        found = forecast(work, load, device)
        spec = planned_model_spec(config)
        note = (
            f"a student of {spec.n_parameters:,} parameters and a teacher of {teacher_spec.n_parameters:,}, "
            f"{found.steps:,} steps of {settings.batch_size} x {length} tokens in {precision}"
        )
        return Plan(spec, found.estimate, [note])

    def run(self, settings: DistillSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.data.shards import PackedWindows, TokenShards
        from arriero.data.tokenize import tokenizer_folder
        from arriero.models.checkpoint import build_model, load_model
        from arriero.tokenization.tokenizer import Tokenizer
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.model_folder import write_model_folder
        from arriero.training.objectives.distil import attach_teacher
        from arriero.training.traced import TracedFlops, Work

        tokens: Artifact = inputs["tokens"]
        given: Artifact | None = inputs.get("student")
        tokenizer = Tokenizer.load(tokenizer_folder(tokens.path))
        for role, artifact in (("teacher", inputs["teacher"]), ("student", given)):
            if artifact is not None:
                _check_tokenizer(role, artifact, tokenizer)
        teacher = load_model(inputs["teacher"].path, dtype="float32")
        if given is None:
            student = build_model(_student_config(settings, None, tokenizer.vocab_size))
            student.init_weights(context.seed)
        else:
            _refuse_shape(settings)
            student = load_model(given.path, dtype="float32")
            student.requires_grad_(True)
        settings = settings.for_model(sum(student.parameter_counts().values()))
        _refuse_mixture(TokensSpec.model_validate(tokens.manifest.spec))
        length = _window_length(settings, student.config, teacher.config)
        attach_teacher(student, teacher)
        objective = _objective(PackedWindows(TokenShards.open(tokens.path, TRAIN), length), settings, length)
        heldout = None
        if _n_windows(TokensSpec.model_validate(tokens.manifest.spec), VALIDATION, length):
            shards = TokenShards.open(tokens.path, VALIDATION)
            heldout = _objective(PackedWindows(shards, length), settings, length)
        arithmetic = kept_arithmetic(settings, context.state)
        work = Work(
            student.config, objective, settings, arithmetic.precision, _teacher_beside(teacher.config)
        )
        result = train(
            student, objective, settings, context, arithmetic=arithmetic, heldout=heldout, flops=TracedFlops(work)
        )  # fmt: skip
        facts: dict[str, Any] = training_facts(result, load_profile())
        counts = student.parameter_counts()
        facts["parameters"] = counts
        facts["teacher_parameters"] = sum(teacher.parameter_counts().values())
        if heldout is not None:
            last = facts["heldout_model"]
            facts["heldout_nats_per_token"] = last["hard_loss"]
            facts["heldout_divergence"] = last.get("divergence", math.nan)
        return Outcome(write_model_folder(student, tokenizer, context.folder), facts)


def _student_config(settings: DistillSettings, student: ModelSpec | None, vocab_size: int) -> ModelConfig:
    if student is None:
        return settings.config(vocab_size)
    from arriero.models.checkpoint import parse_config

    _refuse_shape(settings)
    config: ModelConfig = parse_config(student.config, "the student")
    return config


def _refuse_shape(settings: DistillSettings) -> None:
    """
    Raises:
        ArrieroError: a shape is given beside a student that has one.
    """
    given = settings.shape_is_given()
    if given:
        raise ArrieroError(f"{given[0]} is for a fresh student; the student that is given has its own shape")


def _refuse_mixture(tokens: TokensSpec) -> None:
    """
    Raises:
        ArrieroError: the tokens are a mixture with shares.
    """
    if tokens.mixture:
        raise ArrieroError("distill does not read a mixture with shares; give one token set")


def _window_length(settings: DistillSettings, student: ModelConfig, teacher: ModelConfig) -> int:
    """
    Raises:
        ArrieroError: the teacher or the student reads no text so long, or not in this direction.
    """
    length = settings.window_length(student)
    for role, config in (("teacher", teacher), ("student", student)):
        longest = getattr(config, "context_length", None)
        if longest is not None and length > longest:
            raise ArrieroError(
                f"windows of {length} tokens are longer than the {role}'s context of {longest}; lower context_length"
            )
        if not _tells_the_next_token(config):
            raise ArrieroError(
                f"the {role} is of the family {config.family}; distill is for models that tell the next token"
            )
    return length


def _tells_the_next_token(config: ModelConfig) -> bool:
    from arriero.models.families import get_family

    return "causal_lm" in get_family(config.family).architectures.values()


def _check_tokenizer(role: str, model: Artifact, tokenizer: Tokenizer) -> None:
    """
    Raises:
        ArrieroError: the model's tokenizer is not that of the tokens.
    """
    from arriero.tokenization.tokenizer import Tokenizer

    own = Tokenizer.load(model.path)
    if own.fingerprint != tokenizer.fingerprint:
        raise ArrieroError(
            f"the {role} '{model.name}' has another tokenizer ({own.fingerprint[:12]}) than the tokens "
            f"({tokenizer.fingerprint[:12]}); tokenize the corpus with the {role}'s tokenizer"
        )


def _teacher_beside(config: ModelConfig) -> Any:
    """What a plan does to the student: a teacher of that shape is beside it, and counted."""

    def adapt(student: Any) -> None:
        from arriero.models.checkpoint import build_model
        from arriero.training.objectives.distil import attach_teacher

        attach_teacher(student, build_model(config))

    return adapt


def _n_windows(tokens: TokensSpec, split: str, length: int) -> int:
    found = tokens.splits.get(split)
    return max(0, found.tokens - 1) // length if found is not None else 0


def _objective(windows: Windows, settings: DistillSettings, length: int) -> DistilObjective:
    from arriero.training.objectives.distil import DistilObjective

    return DistilObjective(
        windows, length, settings.document_mask, temperature=settings.temperature, alpha=settings.alpha,
        divergence=settings.divergence,
    )  # fmt: skip
