"""`arriero compare MODEL --with`: figures, verdict, servers of other makes, and the command beside the stage."""

from __future__ import annotations

import copy
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from arriero.cli import cli
from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.serving import compare_rivals
from arriero.serving.compare import Scores, compare, exact_engine, our_logprobs
from arriero.serving.compare_command import asks_for_agreement
from arriero.serving.compare_rivals import open_rival
from arriero.serving.compare_url import Server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.serving.conftest import _helpers

    from arriero.models.checkpoint import save_model

    path = tmp_path_factory.mktemp("compare") / "model"
    save_model(_helpers.tiny_model(context_length=256), path)
    _helpers.byte_tokenizer().save(path)
    file = path / "tokenizer.json"
    definition = json.loads(file.read_text())
    definition["pre_tokenizer"]["use_regex"] = True  # GPT-2's pattern, which llama.cpp has a name for
    file.write_text(json.dumps(definition))
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    torch.set_num_threads(1)
    return Engine.load(folder, max_batch=1)


class Twin:
    """The same engine as its own rival, with a fault put in."""

    name, tolerance = "twin", 1e-3

    def __init__(self, engine: Engine, change: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        self.engine, self.change = engine, change
        self.wrong_ids = self.wrong_chat = False

    def ids(self, text: str) -> list[int] | None:
        ids = self.engine.tokenizer.encode(text)
        return ids[::-1] if self.wrong_ids else ids

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | list[int] | None:
        text = self.engine.tokenizer.chat.render(messages, add_generation_prompt=True).text
        return text + " " * self.wrong_chat

    def scores(self, ids: list[int]) -> Scores:
        return Scores(self.change(our_logprobs(self.engine, ids)).log_softmax(-1))


TEXTS = ["Hello, mules!", "北京 🦙", "x"]


def test_an_engine_agrees_with_itself(engine: Engine) -> None:
    report = compare(engine, Twin(engine), TEXTS)
    assert report["agree"]
    assert report["max_abs_dlogprob"] < 1e-9
    assert report["max_kl"] < 1e-9
    assert report["top1_agreement"] == 1.0
    assert report["ids_equal"] is True
    assert report["chat_equal"] is True
    assert json.loads(json.dumps(report)) == report


def test_differences_are_what_they_are(engine: Engine) -> None:
    """One logit raised by a known amount: the log-probabilities move by what the softmax says."""

    def raised(logprobs: Tensor) -> Tensor:
        changed = logprobs.clone()
        changed[:, 70] += 2.0
        return changed

    report = compare(engine, Twin(engine, raised), ["abc" * 10])
    ids = engine.tokenizer.encode("abc" * 10)
    scored = [engine.tokenizer.bos_id, *ids]
    ours = our_logprobs(engine, scored)
    theirs = raised(ours).log_softmax(-1)
    deltas = [float(ours[i, t] - theirs[i, t]) for i, t in enumerate(scored[1:])]
    assert report["tokens"] == len(ids)
    assert report["mean_abs_dlogprob"] == pytest.approx(sum(map(abs, deltas)) / len(deltas))
    assert report["max_abs_dlogprob"] == pytest.approx(max(map(abs, deltas)))
    kl = torch.nn.functional.kl_div(theirs, ours, log_target=True, reduction="none").sum(-1)
    assert report["mean_kl"] == pytest.approx(float(kl.mean()))
    assert not report["agree"]
    assert "more than the 0.001 allowed" in report["complaints"][0]
    assert compare(engine, Twin(engine, raised), ["abc" * 10], tolerance=5.0)["agree"]


def test_ids_chat_text_and_nonsense_are_told_apart(engine: Engine) -> None:
    twin = Twin(engine)
    twin.wrong_ids = True
    assert compare(engine, twin, TEXTS)["complaints"] == ["2 of 3 texts give other token ids"]
    twin.wrong_ids, twin.wrong_chat = False, True
    assert compare(engine, twin, TEXTS)["complaints"] == ["the chat template gives another text"]
    nan = Twin(engine, lambda x: x * float("nan"))
    assert not compare(engine, nan, TEXTS)["agree"]
    with pytest.raises(ArrieroError, match="no text has two tokens"):
        compare(engine, twin, [""])


def test_rivals_that_are_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArrieroError, match="--with vllm: it should be"), open_rival("vllm", folder):
        pass

    def missing(name: str) -> Any:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(compare_rivals, "importlib", SimpleNamespace(import_module=missing))
    for name, package in (("transformers", "transformers"), ("llama.cpp", "llama-cpp-python")):
        with pytest.raises(ArrieroError, match=f"{package} is not installed here"), open_rival(name, folder):
            pass


# ---------------------------------------------------------------- servers


@contextmanager
def answering(routes: dict[str, Callable[[dict[str, Any]], Any]]) -> Iterator[str]:
    """A server with these POST routes; others are 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": "m"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = routes[self.path](body) if self.path in routes else None
            self._send(404 if answer is None else 200, answer or {"error": {"message": "no such route"}})

        def _send(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def echo(engine: Engine, shift: float = 0.0) -> Callable[[dict[str, Any]], Any]:
    """OpenAI's old completions with `echo`, as vLLM and Arriero have them."""

    def answer(body: dict[str, Any]) -> Any:
        if not body.get("echo"):
            return None
        ids = body["prompt"]
        rows = our_logprobs(engine, ids)
        name = lambda i: engine.tokenizer.token_bytes(i).decode("utf-8", "replace")  # noqa: E731
        values = [None, *(float(rows[i, t]) + shift for i, t in enumerate(ids[1:])), -1.0]
        tops = [None, *({name(int(row.argmax())): float(row.max())} for row in rows)]
        return {"choices": [{"logprobs": {"token_logprobs": values, "top_logprobs": tops}}]}

    return answer


def next_token(engine: Engine) -> Callable[[dict[str, Any]], Any]:
    """Completions without `echo`, as llama.cpp has them."""

    def answer(body: dict[str, Any]) -> Any:
        if body.get("echo"):
            return None
        row = our_logprobs(engine, body["prompt"])[-1]
        best = {
            engine.tokenizer.token_bytes(int(i)).decode("utf-8", "replace"): float(row[i])
            for i in row.topk(5).indices
        }
        return {"choices": [{"logprobs": {"top_logprobs": [best]}}]}

    return answer


def test_a_server_with_echo_and_tokenize_as_vllm(engine: Engine) -> None:
    def tokenize(body: dict[str, Any]) -> Any:
        if "messages" in body:
            return {"tokens": engine.tokenizer.chat.render(body["messages"], add_generation_prompt=True).ids}
        return {"tokens": engine.tokenizer.encode(body["prompt"])}

    with answering({"/v1/completions": echo(engine), "/tokenize": tokenize}) as url:
        report = compare(engine, Server(url + "/v1", None, engine.tokenizer), TEXTS)
    assert report["agree"], report
    assert report["tokens"] == sum(len(engine.tokenizer.encode(t)) for t in TEXTS)
    assert report["ids_equal"] is True
    assert report["chat_equal"] is True
    assert report["top1_agreement"] == 1.0
    assert report["mean_kl"] is None
    with answering({"/v1/completions": echo(engine, 0.2)}) as url:
        report = compare(engine, Server(url, None, engine.tokenizer), TEXTS)
    assert report["max_abs_dlogprob"] == pytest.approx(0.2)
    assert report["ids_equal"] is None
    assert not report["agree"]


def test_a_server_without_echo_as_llama_cpp(engine: Engine) -> None:
    def template(body: dict[str, Any]) -> Any:
        return {"prompt": engine.tokenizer.chat.render(body["messages"], add_generation_prompt=True).text}

    def tokenize(body: dict[str, Any]) -> Any:
        return {"tokens": engine.tokenizer.encode(body["content"])} if "content" in body else None

    routes = {"/v1/completions": next_token(engine), "/apply-template": template, "/tokenize": tokenize}
    with answering(routes) as url:
        report = compare(engine, Server(url, None, engine.tokenizer), TEXTS)
    assert report["agree"], report
    assert report["tokens"] > 5
    assert report["chat_equal"] is True
    assert report["ids_equal"] is True


def test_a_server_of_our_own(engine: Engine, start: Any) -> None:
    server = start(engine.model)
    report = compare(
        engine, Server(server.info.url, server.info.key, engine.tokenizer), TEXTS, tolerance=1e-4
    )
    assert report["agree"], report
    assert report["tokens"] == sum(len(engine.tokenizer.encode(t)) for t in TEXTS)
    assert report["ids_equal"] is True
    assert report["chat_equal"] is True
    assert report["top1_agreement"] == 1.0


def test_a_server_that_tells_no_probabilities(engine: Engine) -> None:
    with (
        answering({"/v1/completions": lambda body: {"choices": [{"text": "a", "logprobs": None}]}}) as url,
        pytest.raises(ArrieroError, match="gives no log-probabilities"),
    ):
        compare(engine, Server(url, None, engine.tokenizer), TEXTS)


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["m", "--with", "transformers"], True),
        (["--with=transformers", "m"], True),
        (["m", "--help"], True),
        (["--help"], False),
        (["--models", "a", "--tokens", "b"], False),
        ([], False),
    ],
)
def test_what_means_the_stage_and_what_the_command(arguments: list[str], ours: bool) -> None:
    assert asks_for_agreement(arguments) is ours
    done = CliRunner().invoke(cli, ["compare", *arguments, "--help"])
    assert done.exit_code == 0
    assert ("in another engine" in done.output) is ours


def test_the_command_says_so_and_ends_with_1_when_they_disagree(folder: Path, engine: Engine) -> None:
    with answering({"/v1/completions": echo(engine)}) as url:
        agreed = CliRunner().invoke(cli, ["compare", str(folder), "--with", url, "--json"])
        text = CliRunner().invoke(cli, ["compare", str(folder), "--with", url])
    assert agreed.exit_code == 0, agreed.output
    assert json.loads(agreed.stdout)["agree"] is True
    assert "They agree." in text.output
    with answering({"/v1/completions": echo(engine, 1.0)}) as url:
        differing = CliRunner().invoke(cli, ["compare", str(folder), "--with", url])
    assert differing.exit_code == 1
    assert "They disagree: a token's log-probability differs by 1 nats" in differing.output


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize(("name", "module"), [("transformers", "transformers"), ("llama.cpp", "llama_cpp")])
def test_with_the_others_themselves(folder: Path, engine: Engine, name: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"no {module} here")
    with open_rival(name, folder) as rival:
        report = compare(engine, rival, [*TEXTS, "def f(x):\n    return x"])
    assert report["agree"], report
    assert report["ids_equal"] is True
    assert report["chat_equal"] is True


@pytest.mark.parametrize("bits", [4, 8])
def test_an_exact_engine_computes_what_the_files_say(server: Any, tmp_path: Path, bits: int) -> None:
    """Low-bit weights unpacked, no rounding of activations: the model's own forward pass in float32."""
    from arriero.compression.rounding import quantize_model
    from arriero.models.checkpoint import load_decoder, save_model
    from arriero.models.layers.quantized import WeightScheme
    from arriero.native.linear import exact_products

    model = copy.deepcopy(server.engine.model)
    quantize_model(model, WeightScheme(bits, 32), torch.bfloat16)
    save_model(model, tmp_path, "bfloat16")
    server.engine.tokenizer.save(tmp_path)
    ids = server.engine.tokenizer.encode("¿Qué tal, arriero?")
    with torch.no_grad(), exact_products():
        expected = load_decoder(tmp_path, dtype="float32")(torch.tensor([ids]))[0].double().log_softmax(-1)
    engine = exact_engine(tmp_path)
    torch.testing.assert_close(our_logprobs(engine, ids), expected, atol=1e-5, rtol=0)
    assert isinstance(engine, Engine) and engine.runner.name == "torch"
