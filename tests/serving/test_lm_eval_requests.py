"""The requests that lm-evaluation-harness sends to a `local-completions` server, and the scores it makes of them.

What it sends and how it reads the answer is written down here after its `models/openai_completions.py` and
`models/api_models.py` (0.4.13); `tests/parity/test_lm_eval.py` runs the harness itself where it is installed.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arriero.models.scoring import token_logprobs

PAIRS = [
    ("The capital of France is", " Paris."),
    ("¿Qué es una llama?", " Un animal 🦙"),
    ("a", "b"),
    ("", " a text without a context"),
]


def requests(server: Any) -> list[tuple[list[int], list[int]]]:
    """Context and continuation as ids; the harness puts the end-of-text token where there is no context."""
    tokenizer = server.engine.tokenizer
    return [(tokenizer.encode(c) or [tokenizer.eos_id], tokenizer.encode(a)) for c, a in PAIRS]


def payload(batch: list[list[int]]) -> dict[str, Any]:
    return {
        "model": "tiny", "prompt": batch, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True,
    }  # fmt: skip


def parse(body: dict[str, Any], contexts: list[int]) -> list[tuple[float, bool]]:
    """The harness's `parse_logprobs`."""
    found = []
    for choice, length in zip(sorted(body["choices"], key=lambda c: c["index"]), contexts, strict=True):
        tokens = choice["logprobs"]["tokens"][length:-1]
        logprobs = choice["logprobs"]["token_logprobs"][length:-1]
        tops = choice["logprobs"]["top_logprobs"][length:-1]
        greedy = all(top[token] == max(top.values()) for token, top in zip(tokens, tops, strict=True))
        found.append((sum(logprobs), greedy))
    return found


def is_greedy(model: Any, context: list[int], answer: list[int]) -> bool:
    ids = torch.tensor([context + answer])
    with torch.inference_mode():
        best = model.logits(model.hidden(ids))[0].argmax(-1).tolist()
    return best[len(context) - 1 : -1] == answer


@pytest.mark.parametrize("batch_size", [1, 3])
def test_scores_are_those_of_our_evaluator(server: Any, batch_size: int) -> None:
    asked = requests(server)
    scores: list[tuple[float, bool]] = []
    for first in range(0, len(asked), batch_size):
        batch = asked[first : first + batch_size]
        response = server.http.post("/v1/completions", json=payload([c + a for c, a in batch]))
        assert response.status_code == 200, response.text
        scores += parse(response.json(), [len(c) for c, _ in batch])
    ours = token_logprobs(server.engine.model, [c + a for c, a in asked])
    for (context, answer), (score, greedy), row in zip(asked, scores, ours, strict=True):
        assert score == pytest.approx(float(row[-len(answer) :].sum()), abs=1e-3)
        assert greedy == is_greedy(server.engine.model, context, answer)


def test_a_greedy_answer_is_seen_as_greedy(server: Any) -> None:
    tokenizer, model = server.engine.tokenizer, server.engine.model
    context = tokenizer.encode("abc")
    answer: list[int] = []
    for _ in range(4):
        with torch.inference_mode():
            logits = model.logits(model.hidden(torch.tensor([context + answer])))
        answer.append(int(logits[0, -1].argmax()))
    body = server.http.post("/v1/completions", json=payload([context + answer])).json()
    assert parse(body, [len(context)])[0][1]


def test_generate_until(server: Any) -> None:
    """The harness's other request: text that ends before one of the stops."""
    ids = server.engine.tokenizer.encode("hello")
    body = {
        "model": "tiny", "prompt": [ids, ids], "max_tokens": 30, "temperature": 0, "stop": ["\n\n", "zz"], "seed": 1234,
    }  # fmt: skip
    answer = server.http.post("/v1/completions", json=body).json()
    texts = [c["text"] for c in answer["choices"]]
    assert texts[0] == texts[1]
    assert "zz" not in texts[0]
