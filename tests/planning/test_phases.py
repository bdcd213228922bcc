"""Ways of training as passes through models: against the rules of thumb, and against real steps."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from tests.planning.oracle import counted, real_step, subject
from tests.planning.small_models import small

from arriero.cost.workload import Workload
from arriero.errors import ArrieroError
from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool
from arriero.inference.rows import Rows
from arriero.inference.torch_runner import TorchRunner
from arriero.planning.counts import phases
from arriero.planning.counts.generation import decode_step, generation_work, prefill_work
from arriero.planning.counts.phases import flops_of, tokens_of
from arriero.planning.counts.workload import workload_of
from arriero.training.objectives.causal import PlannedWindows
from arriero.training.objectives.distil import DistilObjective, attach_teacher
from arriero.training.objectives.dpo import answer_log_probs
from arriero.training.step import accumulate

LENGTH = 32


@cache
def model(objective: str = "causal", context: int = LENGTH, layers: int = 3, **asked: Any) -> Workload:
    return workload_of(small("llama", layers), context=context, objective=objective, modes=(), **asked)


def per_pass(found: list[phases.Phase], workload: Workload) -> float:
    """FLOPs a sample in forward passes of the products (the 2N of the rules of thumb)."""
    work = [phase.work for phase in found]
    return sum(w.products + w.head for w in work) / (workload.forward.products + workload.forward.head)


def real_model(context: int = LENGTH, layers: int = 3) -> Any:
    made = subject("causal", context).model(small("llama", layers))
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0, 0.02)
    return made


def test_rules_of_thumb() -> None:
    """6N, 8N with a reference, 22N for PPO of four equal models, 10N for GRPO: norms aside, to a hundredth."""
    same, seen = model(), pytest.approx
    assert per_pass(phases.supervised(same), same) == seen(3, rel=1e-2)
    assert per_pass(phases.dpo(same, same), same) == seen(2 * 4, rel=1e-2)
    assert per_pass(phases.dpo(same, None), same) == seen(2 * 3, rel=1e-2)
    assert per_pass(phases.dpo(same, same, epochs=3), same) == seen(2 * (3 * 3 + 1), rel=1e-2)
    assert per_pass(phases.dpo(same, same, epochs=3, cached=False), same) == seen(2 * 12, rel=1e-2)
    assert per_pass(phases.reward_model(same), same) == seen(2 * 3, rel=1e-2)
    assert per_pass(phases.distillation(same, same), same) == seen(4, rel=1e-2)
    assert per_pass(phases.ranked_responses(same, answers=4), same) == seen(4 * 3, rel=1e-2)
    rollout = {"prompt": 12, "response": 20}
    # the last token is never read, and the prompt's logits but for the last are not worked out
    assert per_pass(phases.ppo(same, same, same, same, **rollout), same) == seen(11, rel=0.04)
    assert per_pass(phases.grpo(same, same, group=5, **rollout), same) == seen(5 * 5, rel=0.04)
    assert per_pass(phases.grpo(same, None, group=5, old=True, **rollout), same) == seen(5 * 5, rel=0.04)
    best = phases.rejection_sampling(same, same, samples=8, kept=1, **rollout)
    assert per_pass(best, same) == seen(8 * 2 + 3, rel=0.04)


def test_tokens_and_recomputation() -> None:
    same = workload_of(small("llama", 3), context=LENGTH)
    assert tokens_of(phases.dpo(same, same)) == 4 * LENGTH
    assert tokens_of(phases.serving(same, prompt=5, response=3)) == 8
    plain, again = (flops_of(phases.dpo(same, same), mode) for mode in ("none", "full"))
    assert again - plain == 2 * same.recomputed("full").flops  # the reference has no backward pass


def test_a_real_dpo_step_and_its_reference() -> None:
    policy = model("dpo", scored=11 / LENGTH)
    what, made = subject("dpo", LENGTH, scored=11), real_model()
    _, batch = what.batch(made.config, 2)

    def reference() -> None:
        with torch.no_grad():
            answer_log_probs(made, batch)

    asked, trained = phases.dpo(policy, policy)
    assert asked.work.flops == counted(reference)
    assert trained.work.flops + policy.once.flops == real_step(what, made.config, 2)


def test_a_real_distillation_step() -> None:
    student, teacher = real_model(layers=2), real_model(layers=4)
    attach_teacher(student, teacher)
    objective = DistilObjective(PlannedWindows(3, LENGTH), LENGTH, document_mask=True)
    batch = objective.batch([0, 1, 2])
    accumulate(student, objective, [batch], 1, "fp32")
    real = counted(lambda: accumulate(student, objective, [batch], 3 * LENGTH, "fp32"))
    assert 3 * flops_of(phases.distillation(model(layers=2), model(layers=4))) == real


def test_a_real_prompt_and_real_steps_behind_a_cache() -> None:
    made, workload = real_model(context=BLOCK), model(context=BLOCK)
    config = made.config
    pool = KVPool(CacheShape(3, config.n_kv_heads, config.head_dim), 2 * BLOCK)
    runner = TorchRunner(made, pool)

    def run(count: int, stored: int, sequences: int = 1) -> None:
        rows = Rows()
        for i in range(sequences):
            rows.add([0] * count, stored, [i], [count - 1])
        runner.run(rows)

    assert prefill_work(workload, 12).flops == counted(lambda: run(12, 0))
    # a step reads whole blocks, the plan's what is in them: they are equal where a block is full
    taken = counted(lambda: run(1, BLOCK - 1, 2))
    assert decode_step(workload, batch=2, context=BLOCK).work.flops == taken
    steps = [decode_step(workload, batch=1, context=12 + i).work.flops for i in range(1, 6)]
    assert generation_work(workload, 12, 6).flops == prefill_work(workload, 12).flops + sum(steps)


def test_what_a_step_reads() -> None:
    workload = model()
    few, many = decode_step(workload, batch=1, context=10), decode_step(workload, batch=4, context=10)
    assert few.weight_bytes == many.weight_bytes == 4 * (workload.parameters.total - 83 * 24)
    assert many.kv_bytes == 4 * few.kv_bytes == 4 * 10 * workload.kv_token == 4 * 10 * 3 * 2 * 3 * 8 * 4


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArrieroError, match="prompt and response have 40"):
        phases.ppo(model(), model(), model(), model(), prompt=20, response=20)
    with pytest.raises(ArrieroError, match="no cache"):
        decode_step(workload_of(small("bert"), context=8, modes=()), batch=1, context=4)
