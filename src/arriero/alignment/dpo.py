"""The stage ``dpo``: direct preference optimization on pairs of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from arriero.cost.device import DeviceProfile, load_profile
from arriero.errors import ArrieroError
from arriero.stage import Context, Input, Inputs, ModelSpec, Outcome, Plan, Specs, Stage, register
from arriero.training.duration import DurationText
from arriero.training.precision import choose_arithmetic, kept_arithmetic
from arriero.training.tasks import in_run_tasks
from arriero.tuning.adapt import (
    AdaptSettings,
    adapter_setup,
    check_format,
    load_for_training,
    trained_parameters,
    write_adapted,
)

if TYPE_CHECKING:
    from arriero.data.conversations import Preference
    from arriero.tokenization.tokenizer import Tokenizer
    from arriero.training.objectives.dpo import DpoObjective, Pair


class DpoSettings(AdaptSettings):
    """Settings of the stage ``dpo``."""

    duration: DurationText = Field(default="1 epochs", description="'2e6 tokens', '3 epochs' or '500 steps'")
    learning_rate: float = Field(default=5e-5, gt=0, lt=10, description="peak learning rate")
    weight_decay: float = Field(
        default=0.0, ge=0, lt=10, description="decoupled weight decay, of matrices only"
    )
    beta: float = Field(
        default=0.1, gt=0, description="strength of the pull towards the model it starts from"
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="share of the preferences taken to be the wrong way round (cDPO)",
    )
    nll_coef: float = Field(
        default=0.0, ge=0, description="weight of the chosen answer's mean negative log-probability a token"
    )


@register
class Dpo(Stage[DpoSettings]):
    """Make the preferred answers likelier than the others, held near the model it starts from.

    The reference's log-probabilities are worked out once, with the starting weights (with LoRA: with the adapters off),
    and kept. Before the first update the loss must be ln 2; if it is not, the reference is wrong and the run stops.
    """

    kind = "dpo"
    version = 1
    makes = "model"
    inputs = {"model": Input("model", "the model to align, an artifact or a Hugging Face folder")}
    help = "align a model with preferences between two answers"
    Settings = DpoSettings

    def plan(self, settings: DpoSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.training.plan import pass_shapes, plan_training, run_load
        from arriero.training.traced import Work

        model: ModelSpec = specs["model"]
        config = check_format(model)
        longest, seed = settings.row_length(config), settings.seed or 0
        train, held = (
            _unreferenced([_planned_pair(row, config.vocab_size, longest) for row in part], settings)
            for part in _split(settings)
        )
        precision = choose_arithmetic(settings, device).precision
        extra = [shape for part in (train, held) for shape in pass_shapes(settings, part, range(len(part)))]
        load = run_load(settings, train, held, seed, extra=extra)
        work = Work(config, train, settings, precision, adapter_setup(settings, seed))
        note = (
            f"{len(train):,} pairs, {len(held):,} held out, about {train.tokens_per_sample():.0f} tokens each"
        )
        return Plan(model.model_copy(update={"format": "float32"}), plan_training(work, load, device), [note])

    def run(self, settings: DpoSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.alignment.reference import reference_log_probs
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.traced import TracedFlops, Work

        model, tokenizer = load_for_training(inputs["model"])
        longest = settings.row_length(model.config)
        parts = [render_pairs(part, tokenizer, longest) for part in _split(settings)]
        (pairs, counts), (held_pairs, held_counts) = parts
        if not pairs:
            raise ArrieroError(
                "no preference pair is left to train on; give more data or a greater max_length"
            )
        _tell(context, counts)
        adapt = adapter_setup(settings, context.seed)
        adapt(model)
        facts = trained_parameters(model)
        arithmetic = kept_arithmetic(settings, context.state)
        flops = TracedFlops(
            Work(model.config, _unreferenced(pairs, settings), settings, arithmetic.precision, adapt)
        )
        objective, heldout = (
            _objective(
                part, reference_log_probs(model, part, settings, arithmetic, context, flops), settings
            )
            for part in (pairs, held_pairs)
        )  # fmt: skip
        result = train(
            model, objective, settings, context, arithmetic=arithmetic, heldout=heldout, flops=flops,
            tasks=in_run_tasks(settings, tokenizer, model.config.context_length, chat=True),
        )  # fmt: skip
        facts |= {"data": counts, "heldout_data": held_counts, **training_facts(result, load_profile())}
        if facts["heldout"]:
            facts["heldout_preference"] = {"before": facts["heldout"][0], "after": facts["heldout_model"]}
        return Outcome(write_adapted(model, tokenizer, settings, context), facts, settings.licenses())


def _split(settings: DpoSettings) -> tuple[list[Preference], list[Preference]]:
    """(train, held-out) pairs of all files; equal answers say nothing and are left out."""
    from arriero.data.conversations import read_preferences, split_holdout

    rows = [row for path in settings.data for row in read_preferences(path) if row.chosen != row.rejected]
    train, held = split_holdout(rows, settings.holdout_share, settings.holdout_seed)
    if not train:
        raise ArrieroError(f"of {len(rows)} preference pairs none is left to train on; lower holdout_share")
    return train, held


def _objective(pairs: Sequence[Pair], reference: Any, settings: DpoSettings) -> DpoObjective:
    from arriero.training.objectives.dpo import DpoObjective

    return DpoObjective(
        pairs,
        reference,
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        nll_coef=settings.nll_coef,
    )


def _unreferenced(pairs: Sequence[Pair], settings: DpoSettings) -> DpoObjective:
    """An objective that is only planned with: its reference is all zeros."""
    import torch

    return _objective(pairs, torch.zeros(len(pairs), 2), settings)


def _planned_pair(row: Preference, vocab_size: int, longest: int) -> Pair:
    from arriero.training.objectives.dpo import Pair
    from arriero.training.planned_rows import planned_row

    def planned(answer: str) -> Any:
        return planned_row([*row.prompt, {"role": "assistant", "content": answer}], vocab_size, longest)

    return Pair(planned(row.chosen), planned(row.rejected))


def render_pairs(
    preferences: Sequence[Preference], tokenizer: Tokenizer, longest: int
) -> tuple[list[Pair], dict[str, int]]:
    """Pairs as rows of at most ``longest`` tokens, and counts of what became of them.

    Only the last answer is scored, not earlier ones that belong to the prompt. Rows are cut at their end; a pair
    with an answer of which nothing is left is dropped and counted.
    """
    import numpy as np

    from arriero.training.objectives.dpo import Pair
    from arriero.training.objectives.sft import Row

    pairs: list[Pair] = []
    cut = dropped = 0
    for preference in preferences:
        prompt_length = len(tokenizer.chat.render(preference.prompt, add_generation_prompt=True).ids)
        rows = []
        for answer in (preference.chosen, preference.rejected):
            rendered = tokenizer.chat.render([*preference.prompt, {"role": "assistant", "content": answer}])
            mask = np.array(rendered.mask, dtype=bool)
            mask[:prompt_length] = False
            cut += len(mask) > longest
            rows.append(Row(np.array(rendered.ids[:longest], dtype=np.int64), mask[:longest]))
        if all(row.mask.any() for row in rows):
            pairs.append(Pair(*rows))
        else:
            dropped += 1
    tokens = sum(len(p.chosen.ids) + len(p.rejected.ids) for p in pairs)
    scored = sum(int(p.chosen.mask.sum() + p.rejected.mask.sum()) for p in pairs)
    return pairs, {
        "pairs": len(pairs), "truncated_rows": cut, "dropped": dropped, "tokens": tokens, "answer_tokens": scored
    }  # fmt: skip


def _tell(context: Context, counts: dict[str, int]) -> None:
    line = (
        f"{counts['pairs']:,} pairs, {counts['tokens']:,} tokens, "
        f"{counts['answer_tokens'] / max(1, counts['tokens']):.0%} of them in answers"
    )
    if counts["truncated_rows"]:
        line += f"; {counts['truncated_rows']:,} answers cut to length, {counts['dropped']:,} pairs dropped"
    context.say(line)
