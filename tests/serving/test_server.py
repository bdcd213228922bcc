"""Starting, stopping, announcing; the small client; the chat in the terminal."""

from __future__ import annotations

import builtins
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.request import Event, Sampling
from arriero.serving.chat import answer, chat, converse
from arriero.serving.client import ask, demo_question, wait_healthy
from arriero.serving.listen import base_url, is_loopback, listen
from arriero.serving.server import ServerOptions, announce, serve


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ArrieroError, match=rf"port {port} on 127.0.0.1 is taken .* --port") as raised:
            serve(tmp_path, ServerOptions(port=port))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "port", "word"),
    [
        ("no.such.host.invalid", 0, "unknown"),
        ("127.0.0.1", 70000, "port 70000"),
        ("192.0.2.7", 0, "not an address"),
    ],
)
def test_wrong_addresses(host: str, port: int, word: str) -> None:
    with pytest.raises(ArrieroError, match=word):
        listen(host, port)


def test_addresses_that_others_reach_are_known_as_such() -> None:
    with listen("0.0.0.0", 0) as sock:
        assert not is_loopback(sock)
        assert base_url(sock, "0.0.0.0").startswith("http://127.0.0.1:")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6(start: Any) -> None:
    try:
        server = start(host="::1")
    except ArrieroError:
        pytest.skip("no IPv6 loopback here")
    assert server.info.url.startswith("http://[::1]:")
    assert server.chat().status_code == 200


def test_keys() -> None:
    assert ServerOptions(no_key=True).keys() == ()
    assert ServerOptions(api_key="a-b").keys() == ("a-b",)
    made = {key for _ in range(3) for key in ServerOptions().keys()}  # noqa: SIM118 - it is no dictionary
    assert len(made) == 3
    assert all(len(key) >= 32 for key in made)
    for wrong in ("", "a b", "clé", "a\n"):
        with pytest.raises(ArrieroError, match="printable ASCII"):
            ServerOptions(api_key=wrong).keys()
    with pytest.raises(ArrieroError, match="at once"):
        ServerOptions(api_key="a", no_key=True).keys()


def test_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# the team's\nalpha\n\n  beta  \n")
    assert ServerOptions(key_file=file).keys() == ("alpha", "beta")
    assert ServerOptions(key_file=file, api_key="mine").keys() == ("mine", "alpha", "beta")
    with pytest.raises(ArrieroError, match="at once"):
        ServerOptions(key_file=file, no_key=True).keys()
    file.write_text("alpha\nbe ta\n")
    with pytest.raises(ArrieroError, match="line 2"):
        ServerOptions(key_file=file).keys()
    for text in ("", "# none\n"):
        file.write_text(text)
        with pytest.raises(ArrieroError, match="holds no API key"):
            ServerOptions(key_file=file).keys()
    with pytest.raises(ArrieroError, match="cannot be read"):
        ServerOptions(key_file=tmp_path / "nothing").keys()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_seconds": 0}, "max_seconds"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens"),
        ({"max_queue": -1}, "max_queue"),
        ({"adapter_folder": Path("/no/such/folder")}, "no/such/folder"),
        ({"costs": {"wats": 5}}, "did you mean 'watts'"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ArrieroError, match=word):
        ServerOptions(**options).check()


def test_what_is_announced(start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = start(api_key=None).info
    announce(made)
    out = capsys.readouterr().out
    assert f"{made.url}/#key={made.key}" in out
    assert "WARNING" not in out
    announce(start(api_key=None, no_key=True).info)
    assert "WARNING: no API key" in capsys.readouterr().out
    given = start(api_key="mine", host="0.0.0.0").info
    announce(given)
    out = capsys.readouterr().out
    assert "made for this run" not in out
    assert "WARNING: other machines" in out


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArrieroError, match=r"fastapi and uvicorn: pip install 'arriero\[serve\]'"):
        serve(tmp_path, ServerOptions(port=0))


def test_no_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError):
        serve(tmp_path, ServerOptions(port=0))
    with pytest.raises(ArrieroError, match="neither the folder of a model"):
        chat(tmp_path / "nothing", prompt="hi")


# ---------------------------------------------------------------- the small client


def test_ask_equals_the_whole_answer(start: Any) -> None:
    server = start()
    got = ask(server.info.url, server.info.key, "hello", max_tokens=20)
    whole = server.chat("hello", max_tokens=20, temperature=0).json()
    assert got.text == whole["choices"][0]["message"]["content"]
    assert got.tokens == whole["usage"]["completion_tokens"]
    assert got.finish_reason == whole["choices"][0]["finish_reason"]
    assert 0 < got.first_token_seconds <= got.seconds


def test_the_client_passes_errors_on(start: Any) -> None:
    server = start()
    with pytest.raises(ArrieroError, match=r"401.*key"):
        ask(server.info.url, "wrong", "hello")
    with pytest.raises(ArrieroError, match=r"400.*context holds 512"):
        ask(server.info.url, server.info.key, "x" * 600)
    with pytest.raises(ArrieroError, match="look like http"):
        ask("127.0.0.1", None, "hello")
    with listen("127.0.0.1", 0) as sock:
        unused = base_url(sock, "127.0.0.1")
    with pytest.raises(ArrieroError, match="no answer"):
        ask(unused, None, "hello")
    with pytest.raises(ArrieroError, match="did not come up"):
        wait_healthy(unused, timeout=0.1)


def test_a_stream_that_breaks_off_is_told(start: Any, endless: Any) -> None:
    server = start(endless())
    step, count = server.engine.step, iter(range(100))

    def failing() -> Any:
        if next(count) == 5:
            raise RuntimeError("a fault")
        return step()

    server.engine.step = failing
    with pytest.raises(ArrieroError, match="broke off"):
        ask(server.info.url, server.info.key, "hello", max_tokens=50)


# ---------------------------------------------------------------- from a folder on disk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Path:
    from arriero.models.checkpoint import save_model

    path = tmp_path_factory.mktemp("models") / "my-model"
    path.mkdir()
    save_model(server.engine.model, path)
    server.engine.tokenizer.save(path)
    return path


def test_demo_question(folder: Path) -> None:
    got = demo_question(folder, "¿Qué?", max_tokens=12)
    assert got.tokens == 12 or got.finish_reason == "stop"
    with pytest.raises(ArrieroError, match="no answer"):
        ask(got.url, None, "still there?")


def test_the_server_as_a_program_ends_well_on_sigterm(folder: Path) -> None:
    code = (
        "import sys, pathlib, torch; torch.set_num_threads(1)\n"
        "from arriero.serving.server import ServerOptions, serve\n"
        "serve(pathlib.Path(sys.argv[1]), ServerOptions(port=0, api_key='k'),\n"
        "      ready=lambda info: print(info.url, info.model, flush=True))\n"
        "print('ended well')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url, model = process.stdout.readline().split()
        assert model == "my-model"
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.append(ask(url, "k", "hello", max_tokens=300, temperature=1.0))
        )
        asking.start()
        time.sleep(0.15)
        process.send_signal(signal.SIGTERM)
        asking.join()
        assert answers[0].finish_reason in ("length", "stop")
        assert process.wait(20) == 0
        assert "ended well" in process.stdout.read()
    finally:
        process.kill()


def test_the_name_of_an_artifact(tmp_path: Path) -> None:
    from arriero.serving.server import model_name

    assert model_name(tmp_path) == tmp_path.name
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "dpo"}))
    assert model_name(tmp_path) == "dpo"


# ---------------------------------------------------------------- the chat in the terminal


@pytest.fixture
def engine(server: Any) -> Engine:
    return Engine(server.engine.model, server.engine.tokenizer, max_batch=1)


SAMPLING = Sampling(temperature=0, max_tokens=16)


def talk(engine: Engine, *lines: str) -> str:
    out = io.StringIO()
    converse(engine, [], SAMPLING, io.StringIO("".join(f"{line}\n" for line in lines)), out)
    return out.getvalue()


def test_a_conversation_remembers_and_resets(engine: Engine) -> None:
    prompts: list[list[int]] = []
    stream = engine.stream
    engine.stream = lambda request: prompts.append(request.prompt) or stream(request)  # type: ignore[method-assign, func-returns-value]
    out = talk(engine, "hello", "", "again", "/reset", "hello", "/quit", "never read")
    assert len(prompts) == 3
    assert prompts[1][: len(prompts[0])] == prompts[0]
    assert prompts[2] == prompts[0]
    assert "(forgotten)" in out
    assert engine.idle


def test_unknown_commands_get_help_and_the_end_of_input_ends(engine: Engine) -> None:
    assert talk(engine, "/what").count("/reset forgets") == 2


def test_a_conversation_over_the_context_is_told(engine: Engine) -> None:
    out = talk(engine, "x" * 600, "hello")
    assert "the context holds 512" in out
    assert "/reset" in out.splitlines()[1]


def test_control_c_stops_the_answer_not_the_program(engine: Engine) -> None:
    step, before = engine.step, signal.getsignal(signal.SIGINT)

    def interrupted() -> Any:
        events = step()
        if engine.steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return events

    engine.step = interrupted  # type: ignore[method-assign]
    out = io.StringIO()
    long = Sampling(temperature=0, max_tokens=400, ignore_end=True)
    answer(engine, [{"role": "user", "content": "hi"}], long, out)
    assert out.getvalue().endswith("[stopped]\n")
    assert engine.steps <= 5
    assert engine.idle
    assert signal.getsignal(signal.SIGINT) is before


def test_what_the_model_says_cannot_steer_the_terminal(engine: Engine) -> None:
    event = Event(1, 5, "a\x1b[2Jb\r\x9b\n\tc", finish_reason="stop")
    engine.stream = lambda request: iter([event])  # type: ignore[method-assign, assignment, return-value]
    out = io.StringIO()
    text = answer(engine, [{"role": "user", "content": "hi"}], SAMPLING, out)
    assert out.getvalue() == "a\ufffd[2Jb\ufffd\ufffd\n\tc\n"
    assert text == event.text


def test_one_answer_from_a_folder(folder: Path, engine: Engine) -> None:
    out = io.StringIO()
    chat(folder, prompt="hello", system="Be brief.", max_tokens=16, temperature=0, target=out)
    expected = io.StringIO()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    answer(engine, messages, SAMPLING, expected)
    assert out.getvalue() == expected.getvalue()
    with pytest.raises(ArrieroError, match="temperature"):
        chat(folder, prompt="hello", temperature=-1)


def test_chat_needs_nothing_of_the_server(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("fastapi", "uvicorn", "starlette"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert talk(engine, "hello")
