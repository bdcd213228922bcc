"""How long `arriero plan --goal` searches, apart from tracing: plans a second, by step. Tracing is timed by itself: the
model alone, and the groups of processes of the plans that would be chosen (with the searches in between).

python benchmarks/plan_search.py --model llama-3.2-1b --max-devices 256 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from arriero.cost.search.choose import Search
from arriero.cost.search.evaluate import Surroundings, evaluate
from arriero.cost.search.limits import Limits
from arriero.cost.search.space import enumerate_plans
from arriero.cost.workload import Workload
from arriero.planning.estimate.model_source import find_model
from arriero.planning.goal.answer import offers_for, tariffs_of, traced
from arriero.planning.goal.offers import choose_devices, precisions
from arriero.planning.goal.question import GoalQuestion
from arriero.planning.goal.settle import settled
from arriero.planning.goal.variants import make_space, step_sequences

LIMITS = Limits(5 * 86400.0, 1000.0)


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """(CPU seconds of this process, result)."""
    start = time.process_time()
    found = what()
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="llama-3.2-1b")
    parser.add_argument("--max-devices", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = find_model(args.model)
    question = GoalQuestion(
        "cheapest", args.model, source.config, tokens=1e10, max_devices=args.max_devices, runnable=False
    )
    tariffs, devices = tariffs_of(question), choose_devices(())
    tracing, variants = timed(lambda: traced(question, precisions(devices, ()), lambda line: None))
    offers = offers_for(question, devices, variants, tariffs)
    around = Surroundings(tariffs.pue.quantity(), tariffs.grid.quantity())
    space = make_space(question, variants, offers, step_sequences(question, variants[0].workload))

    def search(workloads: list[Workload]) -> tuple[list[Workload], int | None]:
        scores = evaluate(plans, offers, workloads, 1e10, around)
        return workloads, Search(plans, scores, LIMITS, "cheapest").best()

    plans = enumerate_plans(space)
    settling, workloads = timed(lambda: settled(plans, [variant.workload for variant in variants], search))
    rounds = []
    for _ in range(args.rounds):
        enumerating, plans = timed(lambda: enumerate_plans(space))
        evaluating, scores = timed(lambda plans=plans: evaluate(plans, offers, workloads, 1e10, around))
        found = Search(plans, scores, LIMITS, "cheapest")
        choosing, _ = timed(lambda found=found: (found.best(), found.nearest_miss(), found.pareto()))
        rounds.append({"enumerate": enumerating, "evaluate": evaluating, "choose": choosing})
    best = min(rounds, key=lambda row: sum(row.values()))
    result = {
        "model": args.model, "plans": len(plans), "tracing_cpu_s": tracing, "tracing_groups_cpu_s": settling, **{f"{k}_cpu_s": v for k, v in best.items()},
        "plans_per_cpu_s": len(plans) / sum(best.values()),
    }  # fmt: skip
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:18} {value:,.3f}" if isinstance(value, float) else f"{name:18} {value}")


if __name__ == "__main__":
    main()
