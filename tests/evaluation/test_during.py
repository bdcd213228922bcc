"""Tasks in the course of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.evaluation.answer_loss import score_conversations
from arriero.evaluation.during import InRunTasks, in_run_tasks
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.tasks import TaskSettings
from arriero.training.tasks import in_run_tasks as wanted


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(sample_texts(20_000), 320, "llama3", 2)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Decoder:
    made = Decoder(
        DecoderConfig(
            vocab_size=tokenizer.vocab_size, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64,
            context_length=96,
        )
    )  # fmt: skip
    made.init_weights(0)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> TaskSettings:
    chats = tmp_path / "chat.jsonl"
    rows = [
        [{"role": "user", "content": f"q{n}?"}, {"role": "assistant", "content": f"a {n}"}]
        for n in range(200)
    ]
    chats.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"q{n}?", "chosen": f"good {n}", "rejected": f"bad {n} x"} for n in range(200)]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return TaskSettings(
        eval_prompts=["Once upon"],
        eval_sample_tokens=5,
        eval_conversations=[chats],
        eval_preferences=[pairs],
        eval_items=6,
    )


def test_figures_are_those_of_the_evaluate_stage(settings: Any, tokenizer: Tokenizer, model: Decoder) -> None:
    tasks = in_run_tasks(settings, tokenizer, 96, chat=False)
    assert isinstance(tasks, InRunTasks) and len(tasks._conversations) == 6 and len(tasks._pairs) == 6
    model.train()
    found = tasks.score(model)
    assert model.training
    model.eval()
    nats, tokens = score_conversations(model, tasks._conversations)
    assert found.figures["task_answer_loss"] == pytest.approx(nats.sum() / tokens.sum())
    assert 0 <= found.figures["task_preference_accuracy"] <= 1
    assert found.flops > 0


def test_samples_are_greedy_continuations(settings: Any, tokenizer: Tokenizer, model: Decoder) -> None:
    found = in_run_tasks(settings, tokenizer, 96, chat=False).score(model).samples
    ids = tokenizer.encode("Once upon", bos=True)
    model.eval()
    for _ in range(5):
        with torch.no_grad():
            chosen = int(model.logits(model.hidden(torch.tensor([ids])))[0, -1].argmax())
        if chosen in (tokenizer.eos_id, tokenizer.end_of_turn_id):
            break
        ids.append(chosen)
    expected = tokenizer.decode(ids[len(tokenizer.encode("Once upon", bos=True)) :])
    assert found == [{"prompt": "Once upon", "text": expected}]


def test_what_cannot_be_scored_is_one_line(settings: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="held out and fits 4 tokens"):
        in_run_tasks(settings.model_copy(update={"eval_prompts": []}), tokenizer, 4, chat=False)
    alone = TaskSettings(eval_prompts=["word " * 90])
    with pytest.raises(ArrieroError, match="longer than the model's context of 64 tokens"):
        in_run_tasks(alone, tokenizer, 64, chat=True)
    assert wanted(TaskSettings(), tokenizer, 64, chat=True) is None
