"""The chat page in a real browser over a real server, by a person's steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.serving.chromium import CHROMIUM, Page, texts, visible

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    page = browser
    page.renew()
    yield page


@pytest.mark.parametrize("width", [1280, 360])
def test_a_persons_steps(page: Page, start: Any, endless: Any, width: int) -> None:
    server = start(endless(0.02))
    page.size(width, 800)
    page.open(server.info.page)
    page.wait(visible("#welcome"))
    assert page.ask("location.href") == server.info.url + "/"  # the key is out of the address bar
    assert page.ask("document.activeElement.id") == "question"
    assert page.ask("document.querySelector('#model').value") == "tiny"

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
    assert page.ask("JSON.parse(localStorage['arriero-chat'])[1].facts.cost.money.unit") == "USD"

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

    page.open(server.info.page)  # the browser keeps the conversation
    page.wait(f"{texts('assistant')}.length === 2")
    assert page.ask(texts("user")) == [hostile, "second"]

    page.ask("document.querySelector('#tokens').value = 3")
    page.ask("document.querySelector('.edit').click()")  # the first question: what followed it goes
    page.ask("document.activeElement.select()")
    page.type("changed")
    page.enter()
    page.wait(f"JSON.stringify({texts('assistant')}) === '[\"aaa\"]'")
    assert page.ask(texts("user")) == ["changed"]

    page.press("n", 78, modifiers=1)
    page.wait(visible("#welcome"))
    assert page.ask(texts("user")) == []
    page.open(server.info.page)
    page.wait(visible("#welcome"))
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
