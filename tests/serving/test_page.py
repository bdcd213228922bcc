"""The chat page in a real browser, by a person's steps. Chromium is driven over a pipe (its DevTools protocol)."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
# Chromium reads its commands from file 3 and writes to file 4; the two are put there before it starts.
STARTER = (
    "import fcntl, os, sys\n"
    "read, write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])\n"
    "os.dup2(read, 3); os.dup2(write, 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Page:
    """One page of a headless browser."""

    def __init__(self, profile: Path) -> None:
        child_read, self._write = os.pipe()
        self._read, child_write = os.pipe()
        assert CHROMIUM is not None
        command = [sys.executable, "-c", STARTER, str(child_read), str(child_write), CHROMIUM, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(child_read, child_write),
            stderr=subprocess.DEVNULL,
        )
        os.close(child_read)
        os.close(child_write)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], 30)[0], "Chromium does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "Chromium has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def size(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def open(self, url: str) -> None:
        self.send("Page.navigate", url="about:blank")  # else a change of the fragment alone loads nothing
        self.send("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.ask(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def press(self, key: str, code: int, modifiers: int = 0, text: str = "") -> None:
        name = {"n": "KeyN"}.get(key, key)
        common = {"key": key, "code": name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def enter(self) -> None:
        self.press("Enter", 13, text="\r")

    def problems(self) -> list[str]:
        """Faults of the page's own script."""
        return [str(e["params"]) for e in self.events if e.get("method") == "Runtime.exceptionThrown"]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(tmp_path / "profile")
    yield page
    page.close()


def visible(selector: str) -> str:
    return f"document.querySelector('{selector}')?.checkVisibility()"


def texts(role: str) -> str:
    return f"[...document.querySelectorAll('.turn.{role} .text')].map(e => e.textContent)"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_persons_steps(page: Page, start: Any, endless: Any, width: int) -> None:
    server = start(endless(0.02))
    page.size(width, 800)
    page.open(server.info.page)
    page.wait(visible("#welcome"))
    assert page.ask("location.href") == server.info.url + "/"  # the key is out of the address bar
    assert page.ask("document.activeElement.id") == "question"
    assert page.ask("document.querySelector('#model').textContent") == "tiny"

    hostile = "<img src=x onerror='document.title=1'><b>hi</b>"
    page.type(hostile)
    page.ask("document.querySelector('#tokens').value = 12")
    page.enter()
    page.wait("document.querySelector('.facts')")
    assert page.ask(texts("user")) == [hostile]
    assert page.ask("document.querySelectorAll('#log img, #log b').length") == 0
    assert page.ask(texts("assistant")) == ["a" * 12]
    assert "12 tokens" in page.ask("document.querySelector('.facts').textContent")
    assert "tokens/s" in page.ask("document.querySelector('.facts').textContent")

    page.ask("document.querySelector('#tokens').value = 4096")  # more than is left: it takes what fits
    page.type("second")
    page.enter()
    page.wait(f"{texts('assistant')}[1]?.length > 3")  # it streams
    assert page.ask(visible("#stop"))
    page.press("Escape", 27)
    page.wait("document.querySelectorAll('.facts').length === 2")
    assert "stopped" in page.ask("document.querySelectorAll('.facts')[1].textContent")
    while server.health()["open"]:
        time.sleep(0.02)

    page.ask("document.querySelector('#tokens').value = 5")
    page.ask("document.querySelector('.retry').click()")
    page.wait(f'JSON.stringify({texts("assistant")}) === \'["{"a" * 12}","aaaaa"]\'')
    assert page.ask("document.documentElement.scrollWidth") == width

    page.press("n", 78, modifiers=1)
    page.wait(visible("#welcome"))
    assert page.ask(texts("user")) == []
    assert page.problems() == []


def test_what_is_sent_is_the_conversation_and_the_settings(page: Page, start: Any, endless: Any) -> None:
    server = start(endless(0.0))
    seen: list[Any] = []
    submit = server.engine.submit
    server.engine.submit = lambda request: seen.append(request) or submit(request)
    page.open(server.info.page)
    page.wait(visible("#welcome"))
    page.ask(
        "const t = document.querySelector('#temperature'); t.value = 0.25; t.dispatchEvent(new Event('input'))"
    )
    page.ask("document.querySelector('#tokens').value = 7")
    for number, question in enumerate(["eins", "zwei 🦙"], 1):
        page.type(question)
        page.enter()
        page.wait(f"document.querySelectorAll('.facts').length === {number}")
    assert seen[1].sampling.temperature == 0.25
    assert seen[1].sampling.max_tokens == 7
    messages = [
        {"role": "user", "content": "eins"},
        {"role": "assistant", "content": "a" * 7},
        {"role": "user", "content": "zwei 🦙"},
    ]
    expected = server.engine.tokenizer.chat.render(messages, add_generation_prompt=True).ids
    assert seen[1].prompt == expected


def test_the_key_can_be_typed_and_errors_are_shown(page: Page, start: Any) -> None:
    server = start()
    page.open(server.info.url + "/#key=wrong")
    page.wait(visible("#door"))
    assert "not the right one" in page.ask("document.querySelector('#why').textContent")
    page.type(server.info.key)
    page.enter()
    page.wait(visible("#welcome"))
    page.type("x" * 700)
    page.enter()
    page.wait("document.querySelector('.problem')")
    assert "the context holds 512" in page.ask("document.querySelector('.problem').textContent")
    page.type("short")
    page.enter()
    page.wait("document.querySelector('.facts:not(:empty)')")
    assert page.ask(texts("user")) == ["short"]  # what could not be answered is gone
    assert page.ask("document.querySelector('.problem')") is None
    assert page.problems() == []
