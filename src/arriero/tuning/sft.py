"""The stage ``sft``: supervised fine-tuning on conversations."""

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
    from arriero.models.decoder_config import DecoderConfig
    from arriero.tokenization.tokenizer import Tokenizer
    from arriero.training.objectives.sft import Row

Message = dict[str, Any]


class SftSettings(AdaptSettings):
    """Settings of the stage ``sft``."""

    duration: DurationText = Field(default="2 epochs", description="'2e6 tokens', '3 epochs' or '500 steps'")
    learning_rate: float = Field(default=3e-4, gt=0, lt=10, description="peak learning rate")
    weight_decay: float = Field(
        default=0.0, ge=0, lt=10, description="decoupled weight decay, of matrices only"
    )
    system_prompt: str = Field(default="", description="system message for conversations that have none")
    packing: bool = Field(
        default=True,
        description="several conversations share a row, which none sees across, where that leaves less padding; false: a "
        "row each; the gradient is the same",
    )

    def room(self, config: DecoderConfig) -> int:
        """Most tokens of a packed row; 0 where none are packed."""
        from arriero.training.objectives.packing import can_pack

        return config.context_length if self.packing and not self.compile and can_pack(config) else 0


@register
class Sft(Stage[SftSettings]):
    """Teach a base model to answer: conversations in its chat template, loss on the assistant's words only.

    Each conversation is rendered and tokenised once; only what the assistant says and the end of its turn is scored.
    All weights are trained, or adapters of a low rank (LoRA), which are merged into the result and kept beside it.
    """

    kind = "sft"
    version = 1
    makes = "model"
    inputs = {"model": Input("model", "the model to tune, an artifact or a Hugging Face folder")}
    help = "teach a model to answer, from conversations"
    Settings = SftSettings

    def plan(self, settings: SftSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.training.objectives.sft import SftObjective
        from arriero.training.plan import plan_training, run_load
        from arriero.training.planned_rows import planned_row
        from arriero.training.traced import Work

        model: ModelSpec = specs["model"]
        config = check_format(model)
        longest, seed = settings.row_length(config), settings.seed or 0
        train, held = (
            SftObjective(
                [planned_row(messages, config.vocab_size, longest) for messages in part],
                room=settings.room(config),
            )
            for part in _split(settings)
        )
        precision = choose_arithmetic(settings, device).precision
        load = run_load(settings, train, held, seed)
        work = Work(config, train, settings, precision, adapter_setup(settings, seed))
        note = f"{len(train):,} conversations, {len(held):,} held out, about {train.tokens_per_sample():.0f} tokens each"
        return Plan(model.model_copy(update={"format": "float32"}), plan_training(work, load, device), [note])

    def run(self, settings: SftSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.training.facts import training_facts
        from arriero.training.loop import train
        from arriero.training.objectives.sft import SftObjective
        from arriero.training.traced import TracedFlops, Work

        model, tokenizer = load_for_training(inputs["model"])
        longest = settings.row_length(model.config)
        parts = [render_rows(part, tokenizer, longest) for part in _split(settings)]
        (rows, counts), (held_rows, held_counts) = parts
        if not rows:
            raise ArrieroError("no conversation is left to train on; give more data or a greater max_length")
        _tell(context, counts)
        adapt = adapter_setup(settings, context.seed)
        adapt(model)
        facts = trained_parameters(model)
        arithmetic = kept_arithmetic(settings, context.state)
        room = settings.room(model.config)
        objective, heldout = SftObjective(rows, room=room), SftObjective(held_rows, room=room)
        result = train(
            model, objective, settings, context, arithmetic=arithmetic, heldout=heldout,
            flops=TracedFlops(Work(model.config, objective, settings, arithmetic.precision, adapt)),
            tasks=in_run_tasks(settings, tokenizer, model.config.context_length, chat=True),
        )  # fmt: skip
        facts |= {"data": counts, "heldout_data": held_counts, **training_facts(result, load_profile())}
        if facts["heldout"]:
            facts["heldout_answer_loss"] = {
                "before": facts["heldout"][0]["loss"], "after": facts["heldout_model"]["loss"],
                "tokens": int(facts["heldout_model"]["weight"]), "unit": "nats a supervised token",
            }  # fmt: skip
        return Outcome(write_adapted(model, tokenizer, settings, context), facts, settings.licenses())


def _split(settings: SftSettings) -> tuple[list[list[Message]], list[list[Message]]]:
    """(train, held-out) conversations of all files, with the system prompt put in."""
    from arriero.data.conversations import read_conversations, split_holdout

    conversations = [
        _with_system(conversation, settings.system_prompt)
        for path in settings.data
        for conversation in read_conversations(path)
    ]
    train, held = split_holdout(conversations, settings.holdout_share, settings.holdout_seed)
    if not train:
        raise ArrieroError(f"all {len(held)} conversations are held out; lower holdout_share")
    return train, held


def _with_system(messages: list[Message], prompt: str) -> list[Message]:
    if not prompt or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": prompt}, *messages]


def render_rows(
    conversations: Sequence[list[Message]], tokenizer: Tokenizer, longest: int
) -> tuple[list[Row], dict[str, Any]]:
    """Conversations as rows of at most ``longest`` tokens, and counts of what became of them.

    A row that is too long is cut at its end and left open: it does not learn to stop there. One that has no
    supervised token left is dropped and counted.

    Raises:
        ArrieroError: a conversation has nothing to learn from although it was not cut.
    """
    import numpy as np

    from arriero.training.objectives.sft import Row

    rows: list[Row] = []
    cut = dropped = 0
    for number, messages in enumerate(conversations, 1):
        rendered = tokenizer.chat.render(messages)
        too_long = len(rendered.ids) > longest
        mask = np.array(rendered.mask[:longest], dtype=bool)
        cut += too_long
        if mask[1:].any():
            rows.append(Row(np.array(rendered.ids[:longest], dtype=np.int64), mask))
        elif too_long:
            dropped += 1
        else:
            start = messages[0]["content"][:40]
            raise ArrieroError(
                f"conversation {number} ('{start}…') has no supervised token: either it has no message of the role "
                "assistant, or the chat template marks none with {% generation %}"
            )
    n_tokens = sum(len(row.ids) for row in rows)
    supervised = sum(int(row.mask.sum()) for row in rows)
    return rows, {
        "rows": len(rows), "truncated": cut, "dropped": dropped, "tokens": n_tokens, "supervised_tokens": supervised,
        "supervised_share": supervised / n_tokens if n_tokens else 0.0,
    }  # fmt: skip


def _tell(context: Context, counts: dict[str, Any]) -> None:
    line = (
        f"{counts['rows']:,} conversations, {counts['tokens']:,} tokens, "
        f"{counts['supervised_share']:.0%} of them supervised"
    )
    if counts["truncated"]:
        line += f"; {counts['truncated']:,} cut to length, {counts['dropped']:,} of these dropped"
    context.say(line)
