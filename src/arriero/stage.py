"""The contract that every step of a model's life keeps: settings, plan, run, and the registry.

To add a stage: write one file in the room it belongs to, with a settings class and the two methods,
decorate the class with :func:`register`, and add its line to :data:`STAGES`. The recipe schema, the
command ``arriero <kind>``, planning, metering, reuse and the report follow from that.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from arriero.artifacts import Artifact, LicenseRecord
from arriero.cost import Estimate
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError, did_you_mean

STAGES = {
    "curate": "arriero.data.curate",
    "tokenizer": "arriero.tokenization.train",
    "tokenize": "arriero.data.tokenize",
    "ngram": "arriero.training.count",
    "mix": "arriero.data.mix",
    "pretrain": "arriero.training.pretrain",
    "extend": "arriero.tuning.extend",
    "seq2seq": "arriero.training.seq2seq",
    "sft": "arriero.tuning.sft",
    "regress": "arriero.tuning.regress",
    "dpo": "arriero.alignment.dpo",
    "evaluate": "arriero.evaluation.evaluate",
    "compare": "arriero.evaluation.compare",
    "ladder": "arriero.evaluation.ladder",
    "mixture": "arriero.evaluation.mixture_search",
    "reconcile": "arriero.evaluation.reconcile",
    "distill": "arriero.compression.distill",
    "quantize": "arriero.compression.quantize",
    "export": "arriero.compression.export",
}
"""The module that defines each kind of stage, in the order of a model's life. One line adds a stage."""

IN_RUN_TASKS = "arriero.evaluation.during"
"""The module that scores tasks in the course of a training run. Evaluation lies below training in the house, so training
finds it by name, as the stages are found."""

ArtifactType = Literal[
    "corpus", "tokenizer", "tokens", "model", "scores", "comparison", "law", "reconciliation"
]


# ---------------------------------------------------------------- specs: artifacts that are not made yet


class Spec(BaseModel):
    """What is known of an artifact without making it. After the run the same class holds the true figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: str


class CorpusSpec(Spec):
    """Curated documents, split into train and validation (and more) by document."""

    type: Literal["corpus"] = "corpus"
    splits: dict[str, SplitSpec]
    bytes_read: int = 0
    figures: dict[str, FigureSpread] = Field(
        default={}, description="what filters measured of the kept text, by name: how it is spread"
    )


class FigureSpread(BaseModel):
    """A figure's spread over a corpus's text, every byte counted alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    measured: float = Field(ge=0, le=1, description="share of the text of which the figure is known")
    quantiles: list[float] = Field(description="from the smallest to the largest, evenly over that text")


class SplitSpec(BaseModel):
    """Size of one split; ``bytes`` counts UTF-8 bytes of the text alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    documents: int
    bytes: int
    files: int = Field(
        default=1, ge=0, description="files that hold the documents; work on them goes in parallel"
    )


class TokenizerSpec(Spec):
    type: Literal["tokenizer"] = "tokenizer"
    vocab_size: int
    bytes_per_token: float = Field(
        description="mean UTF-8 bytes a token stands for, on its own training text"
    )


class TokensSpec(Spec):
    """Packed token shards."""

    type: Literal["tokens"] = "tokens"
    vocab_size: int
    splits: dict[str, TokenSplitSpec]
    mixture: dict[str, MixedSourceSpec] = Field(
        default={}, description="sources of a mixture; splits are then their sums"
    )
    pass_epochs: float = Field(
        default=1.0, description="how often a pass over a mixture takes its tokens, on the average"
    )


class TokenSplitSpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    documents: int
    tokens: int
    bytes: int
    repeated: int = Field(
        default=0,
        ge=0,
        description="of the tokens, those of further copies of a document (tokenize: quality)",
    )


class MixedSourceSpec(BaseModel):
    """One source of a mixture, and its share of the samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    share: float
    splits: dict[str, TokenSplitSpec]


class ModelSpec(Spec):
    """A model in a Hugging Face folder, with its tokenizer."""

    type: Literal["model"] = "model"
    config: dict[str, Any] = Field(description="the family's configuration, as models.DecoderConfig dumps it")
    n_parameters: int
    weight_bytes: int = Field(description="bytes of the weight files on disk")
    format: str = Field(default="float32", description="float32, bfloat16, int8, int4")
    lora: dict[str, Any] | None = Field(default=None, description="rank and targets when it is an adapter")


class ScoresSpec(Spec):
    """Results of an evaluation; the figures themselves are in the artifact's scores.json."""

    type: Literal["scores"] = "scores"
    models: list[str]
    measures: list[str]


class ComparisonSpec(Spec):
    """Families of models side by side; the figures themselves are in the artifact's comparison.json."""

    type: Literal["comparison"] = "comparison"
    families: int = Field(description="models that differ in more than their seed")
    runs: int = Field(description="models in all, each seed for itself")


class RungSpec(BaseModel):
    """A model whose loss is predicted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    parameters: float
    tokens: float


class LawSpec(Spec):
    """A fitted scaling law; the figures themselves are in the artifact's law.json."""

    type: Literal["law"] = "law"
    runs: int = Field(description="models it is fitted to")
    embeddings: bool = Field(default=True, description="whether parameters count embeddings")
    predictions: dict[str, RungSpec] = Field(default={}, description="what it predicts, by name")


class ReconciliationSpec(Spec):
    """Predictions beside what became of them; the figures themselves are in the artifact's reconciliation.json."""

    type: Literal["reconciliation"] = "reconciliation"
    predictions: int = Field(description="predictions that a run was held against")


CorpusSpec.model_rebuild()
TokensSpec.model_rebuild()


# ---------------------------------------------------------------- the contract


class StageSettings(BaseModel):
    """Base of every stage's settings: unknown keys are errors, every field has a default that works or is required,
    and every field has a description, which is its ``--help``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    seed: int | None = Field(default=None, ge=0, lt=2**31, description="random seed; by default the recipe's")

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic would read ``true`` as 1 where a number is wanted."""
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None and "bool" not in str(field.annotation):
            raise ValueError(f"should not be {str(value).lower()}")
        return value


@dataclass(frozen=True)
class Input:
    """One thing a stage takes: the type of artifact, and whether it can do without."""

    type: ArtifactType
    help: str
    optional: bool = False
    many: bool = False
    """Several artifacts may be given under this role (``evaluate`` compares models)."""
    named: bool = False
    """With ``many``: the stage gets them by the names of the stages (or artifacts) that made them."""


@dataclass(frozen=True)
class Plan:
    """What a stage will make and what that costs. Energy, CO2 and money are filled in by the walk."""

    spec: Spec
    estimate: Estimate
    notes: list[str] = field(default_factory=list)
    """What the estimate rests on or leaves out, in a line each."""


@dataclass(frozen=True)
class Outcome:
    """What a stage made: the true spec, further facts for the report, licences of the raw files it read."""

    spec: Spec
    facts: dict[str, Any] = field(default_factory=dict)
    licenses: list[LicenseRecord] = field(default_factory=list)


class Context(Protocol):
    """What the run hands to a stage."""

    folder: Path
    """Empty folder where the stage puts the files of its artifact; it becomes the artifact when `run` returns."""
    state: Path
    """Folder that survives a kill, for resumable state and caches; removed once the artifact is committed."""
    seed: int

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Tell how far the stage is. ``figures`` are shown beside the bar, e.g. ``loss=2.31``. Cheap: call often."""

    def log(self, **figures: Any) -> None:
        """Append one JSON line to ``logs/metrics.jsonl`` of the artifact. Survives kills."""

    def say(self, line: str) -> None:
        """Show one line to the user above the progress display."""

    def stop_requested(self) -> bool:
        """True after Ctrl-C or SIGTERM: save what is needed to go on and raise ``Interrupted``."""

    def count_flops(self, flops: float) -> None:
        """Add arithmetic really done, for the measured side of the ledger."""


S = TypeVar("S", bound=StageSettings)
Specs = Mapping[str, Any]
"""role -> Spec (a list where the input is `many`, a dict by name where it is `named`); optional inputs not given are
absent."""
Inputs = Mapping[str, Any]
"""role -> Artifact (or list, or dict, of artifacts)."""


class Stage(ABC, Generic[S]):
    """One step of a model's life."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    """Part of the stage's key: raise it when the same settings and inputs would give another result."""
    makes: ClassVar[ArtifactType]
    inputs: ClassVar[dict[str, Input]] = {}
    help: ClassVar[str]
    """One line for ``arriero --help``; the class's docstring is the text of ``arriero <kind> --help``."""
    Settings: type[S]

    @abstractmethod
    def plan(self, settings: S, specs: Specs, device: DeviceProfile) -> Plan:
        """Say what the stage will make and what it will take, without making it."""

    @abstractmethod
    def run(self, settings: S, inputs: Inputs, context: Context) -> Outcome:
        """Make it, for real."""

    def probe(self) -> dict[str, Rate]:
        """Measure this stage's own code on a small made-up input, for ``arriero calibrate``.

        Returns rates by name (``"<kind>.<what>"``), each measured in about a second or less.
        """
        return {}


_registry: dict[str, type[Stage[Any]]] = {}


def register(cls: type[Stage[Any]]) -> type[Stage[Any]]:
    """Class decorator: make the stage known by its kind."""
    _registry[cls.kind] = cls
    return cls


def stage_modules() -> dict[str, str]:
    """kind -> module, of Arriero itself and of installed packages (entry point group ``arriero.stages``)."""
    return {**STAGES, **_installed_stages()}


@cache
def _installed_stages() -> dict[str, str]:
    """Once for a process: it looks into every installed package."""
    return {point.name: point.value for point in entry_points(group="arriero.stages")}


def get_stage(kind: str) -> Stage[Any]:
    """The stage of that kind; its module is imported on first use.

    Raises:
        ArrieroError: there is no such kind.
    """
    modules = stage_modules()
    if kind not in _registry:
        if kind not in modules:
            raise ArrieroError(f"unknown kind of stage '{kind}'{did_you_mean(kind, modules)}")
        importlib.import_module(modules[kind])
    return _registry[kind]()


def open_input(artifact: Artifact, expected: type[Spec]) -> Any:
    """The true spec of an input artifact, as ``expected``."""
    return expected.model_validate(artifact.manifest.spec)


SpecOf: dict[str, type[Spec]] = {
    "corpus": CorpusSpec,
    "tokenizer": TokenizerSpec,
    "tokens": TokensSpec,
    "model": ModelSpec,
    "scores": ScoresSpec,
    "comparison": ComparisonSpec,
    "law": LawSpec,
    "reconciliation": ReconciliationSpec,
}
Probe = Callable[[], dict[str, Rate]]
