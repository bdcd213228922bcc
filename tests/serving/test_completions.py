"""`/v1/completions` and the tokenizer's routes."""

from __future__ import annotations

import math
from typing import Any

import httpx
import openai
import pytest
import torch

PROMPT = "¿Qué 🦙?"


def post(server: Any, **fields: Any) -> httpx.Response:
    return server.http.post(
        "/v1/completions", json={"model": "tiny", "prompt": "hello", "max_tokens": 6} | fields
    )


def choices(server: Any, **fields: Any) -> list[dict[str, Any]]:
    response = post(server, **fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"]


def expected_logprobs(server: Any, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of every next token, computed without the engine."""
    model = server.engine.model
    with torch.inference_mode():
        logits = model.logits(model.hidden(torch.tensor([ids])))[0]
    return torch.log_softmax(logits.double()[:, : server.engine.tokenizer.vocab_size], dim=-1)


def test_a_completion_has_openai_s_shape(server: Any) -> None:
    body = post(server, temperature=0).json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage"}
    assert body["object"] == "text_completion"
    assert set(body["choices"][0]) == {"index", "text", "logprobs", "finish_reason"}
    assert body["usage"]["prompt_tokens"] == 5
    assert body["usage"]["completion_tokens"] <= 6


def test_sixteen_tokens_unless_said(server: Any) -> None:
    body = server.http.post(
        "/v1/completions", json={"model": "tiny", "prompt": "a", "ignore_eos": True}
    ).json()
    assert body["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("max_tokens", [0, 1, 7])
@pytest.mark.parametrize("as_ids", [False, True])
def test_echo_scores_the_prompt(server: Any, max_tokens: int, as_ids: bool) -> None:
    """What lm-evaluation-harness reads: every token of prompt and answer with its log-probability."""
    tokenizer = server.engine.tokenizer
    ids = tokenizer.encode(PROMPT)
    (choice,) = choices(
        server, prompt=ids if as_ids else PROMPT, echo=True, logprobs=2, max_tokens=max_tokens, temperature=0
    )
    assert choice["text"].startswith(PROMPT)
    told = choice["logprobs"]
    assert len({len(values) for values in told.values()}) == 1
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    assert len(told["tokens"]) >= len(ids) + min(1, max_tokens)
    if max_tokens == 0:
        assert choice["text"] == PROMPT
        assert len(told["tokens"]) == len(ids)
    expected = expected_logprobs(server, ids)
    for place in range(1, len(ids)):
        assert told["token_logprobs"][place] == pytest.approx(
            float(expected[place - 1, ids[place]]), abs=1e-4
        )
        top = told["top_logprobs"][place]
        assert max(top.values()) == pytest.approx(float(expected[place - 1].max()), abs=1e-4)
        assert told["tokens"][place] in top
    if max_tokens == 1:  # greedy: the best of the last row
        assert told["token_logprobs"][len(ids)] == pytest.approx(float(expected[-1].max()), abs=1e-4)


def test_offsets_point_into_the_text(server: Any) -> None:
    (choice,) = choices(server, prompt="héllo", echo=True, logprobs=0, max_tokens=0)
    told = choice["logprobs"]
    assert told["tokens"] == ["h", "bytes:\\xc3", "bytes:\\xa9", "l", "l", "o"]
    assert told["text_offset"] == [0, 1, 1, 2, 3, 4]


def test_prompts_in_lists_are_answered_in_their_order(server: Any) -> None:
    texts = ["one", "two two", "three"]
    alone = [choices(server, prompt=text, temperature=0)[0]["text"] for text in texts]
    together = choices(server, prompt=texts, temperature=0)
    assert [c["text"] for c in together] == alone
    assert [c["index"] for c in together] == [0, 1, 2]
    ids = [server.engine.tokenizer.encode(text) for text in texts]
    assert [c["text"] for c in choices(server, prompt=ids, temperature=0)] == alone


def test_n_answers_to_each_prompt(server: Any) -> None:
    found = choices(server, prompt=["a", "b"], n=3, seed=7, max_tokens=12)
    assert [c["index"] for c in found] == list(range(6))
    assert len({c["text"] for c in found[:3]}) == 3
    usage = post(server, prompt=["a", "b"], n=3, seed=7, ignore_eos=True).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (2, 36)


def test_best_of_gives_the_most_probable(server: Any) -> None:
    options = {"prompt": "a", "seed": 3, "temperature": 2, "max_tokens": 5, "logprobs": 0, "ignore_eos": True}
    mean = [math.fsum(c["logprobs"]["token_logprobs"]) for c in choices(server, n=6, **options)]
    best = choices(server, n=2, best_of=6, **options)
    found = [math.fsum(c["logprobs"]["token_logprobs"]) for c in best]
    assert found == pytest.approx(sorted(mean, reverse=True)[:2], abs=1e-4)


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": ["a", "b"], "n": 2, "seed": 4, "max_tokens": 20, "logprobs": 1, "echo": True}  # fmt: skip
    whole = client.completions.create(**options)
    texts, logprobs, reasons = [""] * 4, [[] for _ in range(4)], [""] * 4
    stream = client.completions.create(**options, stream=True, stream_options={"include_usage": True})
    usage = None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.logprobs:
                logprobs[choice.index] += choice.logprobs.token_logprobs or []
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [c.text for c in whole.choices]
    assert reasons == [c.finish_reason for c in whole.choices]
    for index, choice in enumerate(whole.choices):
        assert choice.logprobs is not None
        assert logprobs[index] == pytest.approx(choice.logprobs.token_logprobs, abs=1e-5)
    assert usage is not None and whole.usage is not None
    assert usage.total_tokens == whole.usage.total_tokens


def test_an_empty_prompt_begins_a_text(server: Any) -> None:
    assert post(server, prompt="").json()["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": None}, ["prompt"]),
        ({"prompt": []}, ["prompt"]),
        ({"prompt": [[]]}, ["prompt"]),
        ({"prompt": [1, "a"]}, ["prompt"]),
        ({"prompt": [10**6]}, ["token id 1000000"]),
        ({"prompt": [-1]}, ["prompt"]),
        ({"prompt": "x" * 600}, ["context holds 512"]),
        ({"prompt": ["a"] * 257}, ["prompt"]),
        ({"max_tokens": 0}, ["max_tokens", "echo"]),
        ({"max_tokens": 10_000}, ["max_tokens 10,000"]),
        ({"best_of": 1, "n": 2}, ["best_of", "at least n"]),
        ({"best_of": 2, "stream": True}, ["best_of", "streamed"]),
        ({"n": 100}, ["100 answers at once"]),
        ({"suffix": "b"}, ["suffix", "infilling"]),
        ({"suffix": "b", "echo": True}, ["echo"]),
        ({"logprobs": 21}, ["logprobs"]),
        ({"logprobs": True}, ["logprobs"]),
        ({"best_off": 2}, ["did you mean 'best_of'"]),
        ({"stream_options": {}}, ["stream_options"]),
    ],
)
def test_wrong_requests_say_which_field(server: Any, fields: dict[str, Any], words: list[str]) -> None:
    response = post(server, **fields)
    assert response.status_code == 400, response.text
    for word in words:
        assert word in response.json()["error"]["message"]


def test_the_prompt_is_to_blame_under_its_own_name(server: Any) -> None:
    assert post(server, prompt="x" * 600).json()["error"]["param"] == "prompt"


def test_tokens_there_and_back(server: Any) -> None:
    ids = server.engine.tokenizer.encode(PROMPT)
    told = server.http.post("/tokenize", json={"prompt": PROMPT, "return_token_strs": True}).json()
    assert told["tokens"] == ids
    assert told["count"] == len(ids) == len(told["token_strs"])
    assert told["max_model_len"] == 512
    back = server.http.post("/detokenize", json={"model": "tiny", "tokens": ids}).json()
    assert back == {"prompt": PROMPT}


def test_a_conversation_counts_as_the_chat_does(server: Any) -> None:
    messages = [{"role": "user", "content": "hello"}]
    count = server.http.post("/tokenize", json={"messages": messages}).json()["count"]
    assert server.chat("hello").json()["usage"]["prompt_tokens"] == count


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}),
        ("/detokenize", {"tokens": [5000]}),
        ("/detokenize", {"tokens": "a"}),
    ],
)
def test_wrong_requests_about_tokens(server: Any, path: str, body: Any) -> None:
    assert server.http.post(path, json=body).status_code == 400
