"""A way of training by its name: which models it takes, and the passes through each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from arriero.cost.workload import Dtype, Workload
from arriero.errors import ArrieroError, did_you_mean
from arriero.planning.counts import phases
from arriero.planning.counts.objective_names import OBJECTIVES
from arriero.planning.counts.phases import Phase
from arriero.planning.counts.workload import workload_of
from arriero.planning.estimate.model_source import ModelSource, find_model
from arriero.planning.estimate.question import Question

_GENERATING = ("ppo", "grpo", "rejection")
METHODS = (
    "auto",
    "causal",
    "masked",
    "seq2seq",
    "sft",
    "reward",
    "dpo",
    "dpo-cached",
    "ppo",
    "grpo",
    "rrtf",
    "rejection",
    "distil",
)
"""What ``--objective`` takes: objectives of one model first, then methods of several."""


@dataclass(frozen=True)
class Method:
    """Passes of one sample.

    Attributes:
        main: the phase that trains the model in question. others: those beside it.
        copies: of the other models that must lie on the devices: (workload, whether it is trained).
    """

    name: str
    main: Phase
    others: tuple[Phase, ...] = ()
    copies: tuple[tuple[Workload, bool], ...] = ()

    @property
    def workload(self) -> Workload:
        return self.main.workload

    @property
    def single(self) -> bool:
        """One model, trained, and nothing else."""
        return not self.others

    @property
    def assumed(self) -> str:
        """What was taken for granted of the other models; empty where there are none."""
        said = {
            "ppo": "critic and reward model as large as the policy", "grpo": "a rule for the reward", "rejection": "a reward model as "
            "large as the policy", "dpo": "the reference asked once",
        }  # fmt: skip
        return said.get(self.name, "")


def method_of(question: Question, model: ModelSource, context: int, dtype: Dtype) -> Method:
    """The phases of ``question.objective``.

    Raises:
        ArrieroError: no such method, or one that the model's family does not take.
    """
    name = question.objective or "auto"
    if name not in (*METHODS, *OBJECTIVES):
        raise ArrieroError(f"--objective: '{name}' is none{did_you_mean(name, METHODS)}")

    def traced(
        objective: str,
        *,
        of: ModelSource = model,
        rank: int = question.lora_rank,
        held: str = question.held,
    ) -> Workload:
        return workload_of(
            of.config, context=context, objective=objective, dtype=dtype, lora_rank=rank, weights=held,  # type: ignore[arg-type]
            optimizer=question.optimizer, document_mask=False, name=of.name,
        )  # fmt: skip

    made = _several(name, question, context, traced)
    if made is None:
        return Method(name, phases.supervised(traced(name))[0])
    main = next(phase for phase in made if phase.backwards and phase.workload.name == model.name)
    return Method(
        name, main, tuple(phase for phase in made if phase is not main), _copies(name, question, made, main)
    )


def _several(
    name: str, question: Question, context: int, traced: Callable[..., Workload]
) -> list[Phase] | None:
    """Phases of a method with more than one pass; None for the objectives of one model."""
    answer = int(question.answer or context // 2)
    if name in _GENERATING and not 1 <= answer < context:
        raise ArrieroError(
            f"--answer {answer} should leave a token or more of --context {context:,} to the prompt"
        )
    said = {"prompt": context - answer, "response": answer}
    if name == "reward":
        return phases.reward_model(traced("scalar"))
    if name in ("dpo", "dpo-cached"):
        return phases.dpo(traced("dpo"), None if name == "dpo-cached" else _frozen(traced))
    if name == "ppo":
        return phases.ppo(
            traced("causal"), traced("scalar"), _frozen(traced), _frozen(traced, "scalar"), **said
        )
    if name == "grpo":
        prompt, group = context - answer, question.group
        return phases.grpo(traced("causal"), _frozen(traced), prompt=prompt, response=answer, group=group)
    if name == "rejection":
        return phases.rejection_sampling(
            traced("sft"), _frozen(traced, "scalar"), samples=question.group, **said
        )
    if name == "rrtf":
        return phases.ranked_responses(traced("sft"), answers=question.group)
    if name == "distil":
        return phases.distillation(traced("causal"), _teacher(question, traced))
    return None


def _frozen(traced: Callable[..., Workload], objective: str = "causal") -> Workload:
    """A model that is only asked: no adapters, 16 bits."""
    return traced(objective, rank=0, held="bf16")


def _teacher(question: Question, traced: Callable[..., Workload]) -> Workload:
    if question.teacher is None:
        raise ArrieroError("--objective distil needs --teacher: the model to learn from")
    return traced("causal", of=find_model(question.teacher), rank=0, held="bf16")


def _copies(
    name: str, question: Question, made: list[Phase], main: Phase
) -> tuple[tuple[Workload, bool], ...]:
    """Other models on the devices. With adapters the reference is the policy without them, and takes no room."""
    found: dict[str, tuple[Workload, bool]] = {}
    for phase in made:
        role = phase.name.split(": ")[-1]
        if phase is main or phase.workload is main.workload or role in ("generation", "actor", "training"):
            continue
        if question.lora_rank and role == "reference":
            continue
        trained = bool(phase.backwards) or found.get(role, (None, False))[1]
        found[role] = (phase.workload, trained)
    return tuple(found.values())
