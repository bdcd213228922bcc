"""What a way of training is made of: passes through models, one after the other, for one sample.

A sample is a sequence, a pair (reward models, DPO), or a prompt with all its answers. Everything is put together from
counted workloads; ``N`` in the docstrings stands for a model's products a token, to say what to expect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from arriero.cost.workload import Recompute, Work, Workload
from arriero.errors import ArrieroError
from arriero.planning.counts.generation import generation_work, prefill_work


@dataclass(frozen=True)
class Phase:
    """Passes through one model.

    Attributes:
        name: what is done. workload: of one sequence through the model.
        forwards, backwards: passes of each sequence. Both in training; forwards alone where a model is only asked.
        sequences: of a sample.
        prompt, response: tokens of a sequence that is generated; then ``forwards`` counts generations.
    """

    name: str
    workload: Workload
    forwards: float = 1.0
    backwards: float = 0.0
    sequences: float = 1.0
    prompt: int = 0
    response: int = 0

    @property
    def tokens(self) -> float:
        """Tokens that go through the model for a sample, each as often as it does so forward."""
        length = self.prompt + self.response if self.response or self.prompt else self.workload.context
        return self.sequences * self.forwards * length

    @property
    def work(self) -> Work:
        """Of one sample, without what a micro-batch takes once (``Workload.once``)."""
        if self.response:
            one = generation_work(self.workload, self.prompt, self.response) * self.forwards
        elif self.prompt:
            one = prefill_work(self.workload, self.prompt) * self.forwards
        else:
            one = self.workload.forward * self.forwards + self.workload.backward * self.backwards
        return one * self.sequences

    def recomputed(self, mode: Recompute) -> Work:
        """What ``mode`` works out a second time in the backward passes."""
        return self.workload.recomputed(mode) * (self.backwards * self.sequences)


def flops_of(phases: Iterable[Phase], recompute: Recompute = "none") -> float:
    """FLOPs of one sample."""
    return sum((phase.work + phase.recomputed(recompute)).flops for phase in phases)


def tokens_of(phases: Iterable[Phase]) -> float:
    """Tokens that go through any model for one sample."""
    return sum(phase.tokens for phase in phases)


def _training(
    workload: Workload, sequences: float = 1.0, epochs: float = 1.0, name: str = "training"
) -> Phase:
    return Phase(name, workload, epochs, epochs, sequences)


def supervised(model: Workload, *, epochs: float = 1.0) -> list[Phase]:
    """Pre-training and fine-tuning, 6N; with a workload of adapters LoRA, about 4N; with packed weights QLoRA: as LoRA,
    and the bytes of unpacking, which stand in ``Workload.once``."""
    return [_training(model, epochs=epochs)]


def reward_model(model: Workload, *, epochs: float = 1.0) -> list[Phase]:
    """A pair of answers, each through the model with a scalar head: 6N for every token of both."""
    return [_training(model, 2.0, epochs)]


def dpo(
    policy: Workload, reference: Workload | None, *, epochs: float = 1.0, cached: bool = True
) -> list[Phase]:
    """A pair of answers: 6N for the policy and 2N for the reference.

    Args:
        reference: the model that training starts from; None: its log-probabilities are there already (6N).
        cached: it is asked once for all epochs, as ``arriero dpo`` does; else in each.
    """
    asked = [] if reference is None else [Phase("reference", reference, 1.0 if cached else epochs, 0.0, 2.0)]
    return [*asked, _training(policy, 2.0, epochs)]


def ppo(
    actor: Workload,
    critic: Workload,
    reference: Workload,
    reward: Workload,
    *,
    prompt: int,
    response: int,
    epochs: float = 1.0,
) -> list[Phase]:
    """One rollout (Ouyang et al., arXiv 2203.02155): generation 2N, scoring by four models 8N, training of two 12N an epoch.
    With four equal models and one epoch 22N.

    Raises:
        ArrieroError: a workload is not of prompt and response together.
    """
    _same_length(prompt + response, actor, critic, reference, reward)
    asked = {"actor": actor, "reference": reference, "reward": reward, "critic": critic}
    return [
        Phase("generation", actor, prompt=prompt, response=response),
        *(Phase(f"scoring: {name}", model) for name, model in asked.items()),
        _training(actor, 1.0, epochs, "training: actor"),
        _training(critic, 1.0, epochs, "training: critic"),
    ]


def grpo(
    policy: Workload,
    reference: Workload | None,
    *,
    prompt: int,
    response: int,
    group: int,
    epochs: float = 1.0,
    old: bool = False,
    reward: Workload | None = None,
) -> list[Phase]:
    """A prompt and ``group`` answers (Shao et al., arXiv 2402.03300): 10N for each with a reference, 8N without.

    Args:
        old: the old policy is scored by itself, 2N more; needed with more than one update a rollout.
        reward: a reward model; None: a rule, which takes no products.
    """
    models = [model for model in (policy, reference, reward) if model is not None]
    _same_length(prompt + response, *models)
    scored = {"old policy": policy if old else None, "reference": reference, "reward": reward}
    return [
        Phase("generation", policy, sequences=group, prompt=prompt, response=response),
        *(Phase(f"scoring: {name}", m, sequences=group) for name, m in scored.items() if m is not None),
        _training(policy, group, epochs),
    ]


def ranked_responses(
    policy: Workload, *, answers: int, epochs: float = 1.0, generated: tuple[int, int] | None = None,
    reward: Workload | None = None,
) -> list[Phase]:  # fmt: skip
    """RRTF (Shen et al., arXiv 2307.14936; RRHF, Yuan et al., arXiv 2304.05302): every answer of a prompt through the
    policy forward and backward, 6N each; no reference.

    Args:
        generated: (prompt, response) tokens of answers that the policy writes itself; None: they are there already.
        reward: ranks the answers, where a model does.
    """
    phases = []
    if generated is not None:
        prompt, response = generated
        _same_length(prompt + response, policy)
        phases.append(Phase("generation", policy, sequences=answers, prompt=prompt, response=response))
    if reward is not None:
        phases.append(Phase("scoring: reward", reward, sequences=answers))
    return [*phases, _training(policy, answers, epochs)]


def distillation(student: Workload, teacher: Workload, *, epochs: float = 1.0) -> list[Phase]:
    """6N for the student and 2N for the teacher, whose head is asked too."""
    return [Phase("teacher", teacher, epochs), _training(student, epochs=epochs)]


def rejection_sampling(
    policy: Workload, reward: Workload, *, prompt: int, response: int, samples: int, kept: float = 1.0,
    epochs: float = 1.0,
) -> list[Phase]:  # fmt: skip
    """``samples`` answers to a prompt, scored, the best ``kept`` of them trained on."""
    _same_length(prompt + response, policy, reward)
    return [
        Phase("generation", policy, sequences=samples, prompt=prompt, response=response),
        Phase("scoring: reward", reward, sequences=samples),
        _training(policy, kept, epochs),
    ]


def serving(model: Workload, *, prompt: int, response: int) -> list[Phase]:
    """A request: the prompt at once (prefill), then token by token (decode)."""
    return [Phase("generation", model, prompt=prompt, response=response)]


def _same_length(tokens: int, *workloads: Workload) -> None:
    for workload in workloads:
        if workload.context != tokens:
            raise ArrieroError(
                f"the workload of {workload.name} is of {workload.context} tokens, prompt and response have {tokens}; "
                "make it with that context"
            )
