"""What the chat page shows and sends, over a server whose every word and figure is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.serving.chromium import CHROMIUM, Page, texts, visible
from tests.serving.scripted_server import Scripted, scripted_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]

MARKDOWN = """# Title
Some **bold**, *low* and `a<b>` text, [a page](https://example.org/x?a=1) and [no](javascript:alert(1)).

1. one
   - inner
2. two

> said

| a | b |
|---|---|
| 1 | **2** |

```python
if a < b:  # **plain**
    pass
```
<img src=x onerror="document.title='hit'"><script>document.title='hit'</script>
"""
WATCH = (
    "addEventListener('securitypolicyviolation', (e) => (window.violations ??= []).push(e.violatedDirective))"
)
CONTRAST = """(() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const ground = (e) => { const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, e.parentElement ? ground(e.parentElement) : [255, 255, 255, 1]); };
  const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.matches(':disabled, .only-heard, option, script, style')) continue;
    const under = ground(e), [a, b] = [light(over(parse(getComputedStyle(e).color), under)), light(under)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push([e.tagName, e.className, e.textContent.slice(0, 20), ratio.toFixed(2)]);
  }
  return found;
})()"""


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    page = browser
    page.renew()
    page.send("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    yield page
    assert page.problems() == []
    assert page.ask("window.violations ?? []") == []


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as script:
        yield script


def say(page: Page, text: str, answers: int = 1) -> None:
    page.type(text)
    page.enter()
    page.wait(f"document.querySelectorAll('.facts').length === {answers}")


def open_page(page: Page, server: Scripted, width: int = 1280, height: int = 860) -> None:
    page.size(width, height)
    page.open(server.url)
    page.wait(visible("#welcome"))


def click(page: Page, selector: str) -> None:
    page.ask(f"document.querySelector('{selector}').click()")


def shape(page: Page) -> str:
    """The last answer's elements, their attributes left out."""
    inner = page.ask("[...document.querySelectorAll('.turn.assistant .text')].at(-1).innerHTML")
    return str(page.ask(f"{json.dumps(inner)}.replace(/<(\\w+)[^>]*>/g, '<$1>')"))


def test_markdown_becomes_elements_and_never_the_models_own(page: Page, server: Scripted) -> None:
    open_page(page, server)
    server.tokens = [MARKDOWN[i : i + 7] for i in range(0, len(MARKDOWN), 7)]
    say(page, "format")
    assert shape(page) == (
        "<h3>Title</h3><p>Some <strong>bold</strong>, <em>low</em> and <code>a&lt;b&gt;</code> text, <a>a page</a> and "
        "[no](javascript:alert(1)).</p><ol><li>one<ul><li>inner</li></ul></li><li>two</li></ol>"
        "<blockquote><p>said</p></blockquote><div><table><tbody><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>"
        "<strong>2</strong></td></tr></tbody></table></div><pre><code>if a &lt; b:  # **plain**\n    pass</code></pre><p>"
        "&lt;img src=x onerror=\"document.title='hit'\"&gt;&lt;script&gt;document.title='hit'&lt;/script&gt;</p>"
    )
    assert page.ask("[...document.querySelectorAll('.text a')].map(a => [a.href, a.rel, a.target])") == [
        ["https://example.org/x?a=1", "noopener noreferrer nofollow", "_blank"]
    ]
    assert "hit" not in page.ask("document.title")


EDGES = {
    "a_b_c and 2*3*4 and ** x **": "<p>a_b_c and 2*3*4 and ** x **</p>",
    "```\nnever closed **x**": "<pre><code>never closed **x**</code></pre>",
    "- a\n\n- b\ntail": "<ul><li>a</li><li>b</li></ul><p>tail</p>",
    "3. c\n4. d": "<ol><li>c</li><li>d</li></ol>",
    "one\ntwo\n\n---\nthree": "<p>one\ntwo</p><hr><p>three</p>",
    "a | b\nno table": "<p>a | b\nno table</p>",
    "# Title ##": "<h3>Title</h3>",
    "``a`b``": "<p><code>a`b</code></p>",
    "**a *b* c** ~~d~~ https://x.org/y.": "<p><strong>a <em>b</em> c</strong> <s>d</s> <a>https://x.org/y</a>.</p>",
    "1. a\n\n   more\n2. b": "<ol><li><p>a</p><p>more</p></li><li>b</li></ol>",
    "- ```\n  code\n  ```": "<ul><li><pre><code>code</code></pre></li></ul>",
    "": "",
}
HARD = (
    ">" * 50 + " deep",
    "- " * 60 + "deep",
    "*" * 3000 + "_" * 3000 + "`" * 3001 + "[" * 3000,
    "**a" * 5000,
    "`a``" * 4000,
    "# " + " " * 30000 + "x",
    "- " * 100 + "\n" * 20000 + "x",
    "|" + "-|" * 10000 + "\n" + "|" + " -" * 10000 + "x",
    "- - - " * 5000 + "x",
)


def test_markdown_at_its_edges(page: Page, server: Scripted) -> None:
    open_page(page, server)
    draw = "(text => { const box = document.createElement('div'); markdown(box, text); return box.innerHTML.replace(/<(\\w+)[^>]*>/g, '<$1>') })"
    for text, expected in EDGES.items():
        assert page.ask(f"{draw}({json.dumps(text)})") == expected


def test_markdown_that_would_take_for_ever(page: Page, server: Scripted) -> None:
    open_page(page, server)
    measure = "(text => { const box = document.createElement('div'), begun = performance.now(); markdown(box, text); return performance.now() - begun })"
    for text in HARD:
        assert page.ask(f"{measure}({json.dumps(text)})") < 1000, text[:40]


def test_each_answer_says_what_it_took(page: Page, server: Scripted) -> None:
    open_page(page, server)
    say(page, "known")
    short = page.ask("document.querySelector('.facts').textContent")
    assert short.startswith("4 tokens · ")
    assert "tokens/s" in short
    assert "first after" in short
    assert short.endswith("≈ 0.0000021 USD")
    click(page, ".facts")
    rows = "Object.fromEntries([...document.querySelectorAll('.more dt')].map(t => [t.textContent, t.nextSibling.textContent]))"
    told = page.ask(rows)
    assert told["Prompt"] == "34 tokens, 20 of them cached"
    assert told["Answer"] == "4 tokens"
    assert told["Cost"] == "0.0000021 (0.0000014–0.0000032) USDmodelled: price table"
    assert told["Energy"] == "2.4 (1.2–4.8) Jmodelled: CPU seconds times watts"
    server.cost = {
        "money": {
            "value": None,
            "low": None,
            "high": None,
            "unit": "USD",
            "basis": "unknown",
            "source": "no price",
        }
    }
    say(page, "unknown", 2)
    assert page.ask("document.querySelectorAll('.facts')[1].textContent").endswith("cost unknown")
    assert "no price" in page.ask("document.querySelectorAll('.more')[1].textContent")
    server.cost = None
    say(page, "not told", 3)
    assert "this server does not tell" in page.ask("document.querySelectorAll('.more')[2].textContent")


def test_tokens_are_explained_to_the_mouse_and_to_the_keyboard(page: Page, server: Scripted) -> None:
    open_page(page, server)
    say(page, "tokens")
    click(page, ".see-tokens")
    assert page.ask("[...document.querySelectorAll('.tokens span')].map(s => s.textContent)") == server.tokens
    box = page.ask(
        "(({x, y}) => [x + 3, y + 3])(document.querySelectorAll('.tokens span')[2].getBoundingClientRect())"
    )
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    page.wait(visible("#tip"))
    rows = "[...document.querySelectorAll('#tip tr')].map(r => [...r.children].map(c => c.textContent))"
    assert page.ask(rows) == [
        ["␣you", "36.1 %", "-1.02"],
        ["␣else", "1.8 %", "-4.00"],
        ["⏎", "0.2 %", "-6.50"],
    ]
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=400)
    page.wait(f"!{visible('#tip')}")
    page.ask("document.querySelector('.tokens span').focus()")
    page.press("ArrowRight", 39)
    page.press("ArrowRight", 39)
    assert page.ask("document.activeElement.textContent") == " you"
    assert page.ask("document.activeElement.getAttribute('aria-describedby')") == "tip"
    assert page.ask(visible("#tip"))
    page.press("Escape", 27)
    assert not page.ask(visible("#tip"))
    assert page.ask("document.activeElement.textContent") == " you"
    click(page, ".see-tokens")
    assert page.ask("document.querySelectorAll('.tokens').length") == 0


def test_settings_are_sent_kept_and_put_back(page: Page, server: Scripted) -> None:
    open_page(page, server)
    say(page, "plain")
    assert server.bodies[0] == {
        "model": "tiny", "messages": [{"role": "user", "content": "plain"}], "stream": True,
        "stream_options": {"include_usage": True}, "include_cost": True, "temperature": 0.7, "max_tokens": 256, "logprobs": True,
        "top_logprobs": 5,
    }  # fmt: skip
    click(page, "#tune")
    assert page.ask("document.activeElement.id") == "system"
    page.type("Be brief.")
    given = {
        "temperature": 0, "top_p": 0.9, "min_p": 0.05, "top_k": 40, "seed": 7, "tokens": 9, "schema": '{"type": "object"}',
    }  # fmt: skip
    for name, value in given.items():
        page.ask(
            f"(f => {{ f.value = {json.dumps(value)}; f.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
            f"(document.querySelector('#{name}'))"
        )
    click(page, "#logprobs")
    page.ask(
        "(s => { s.value = 'pirate'; s.dispatchEvent(new Event('change')) })(document.querySelector('#model'))"
    )
    for number in (2, 3):
        page.ask("document.querySelector('#question').focus()")
        say(page, "tuned", number)
        asked = server.bodies[-1]
        assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
        assert asked["messages"][-1] == {"role": "user", "content": "tuned"}
        found = {
            k: v
            for k, v in asked.items()
            if k not in ("messages", "stream", "stream_options", "include_cost")
        }
        schema = {"name": "answer", "schema": {"type": "object"}}
        assert found == {
            "model": "pirate", "temperature": 0, "top_p": 0.9, "min_p": 0.05, "top_k": 40, "seed": 7, "max_tokens": 9,
            "response_format": {"type": "json_schema", "json_schema": schema},
        }  # fmt: skip
        page.open(server.url)
        page.wait("document.querySelectorAll('.facts').length")
    click(page, "#defaults")
    page.ask("document.querySelector('#question').focus()")
    say(page, "plain again", 4)
    assert {k: v for k, v in server.bodies[-1].items() if k != "messages"} == {
        k: v for k, v in (server.bodies[0] | {"model": "pirate"}).items() if k != "messages"
    }


def test_a_schema_that_is_none_is_told_and_nothing_is_sent(page: Page, server: Scripted) -> None:
    open_page(page, server)
    page.ask("document.querySelector('#schema').value = '{oops'")
    page.type("go")
    page.enter()
    page.wait(visible("#schema-problem"))
    assert page.ask("document.activeElement.id") == "schema"
    assert "Not JSON" in page.ask("document.querySelector('#schema-problem').textContent")
    assert server.bodies == []
    assert page.ask(texts("user")) == ["go"]
    page.ask("document.querySelector('#schema').value = ''")
    click(page, ".retry")
    page.wait("document.querySelector('.facts')")
    assert page.ask(texts("user")) == ["go"]


def test_a_past_message_is_changed_and_asked_again_from_there(page: Page, server: Scripted) -> None:
    open_page(page, server)
    for number, text in enumerate(["one", "two", "three"], 1):
        say(page, text, number)
    page.ask("document.querySelectorAll('.edit')[1].click()")
    page.type("!")  # the cursor is at the end or the start: the text below says which
    page.press("Escape", 27)  # not after all
    assert page.ask(texts("user")) == ["one", "two", "three"]
    page.ask("document.querySelectorAll('.edit')[1].click()")
    page.ask("document.activeElement.select()")
    page.type("zwei")
    page.enter()
    page.wait(f"document.querySelectorAll('.facts').length === 2 && {texts('user')}.length === 2")
    assert page.ask(texts("user")) == ["one", "zwei"]
    assert [m["content"] for m in server.bodies[-1]["messages"]] == ["one", "Hello, you!", "zwei"]
    before = len(server.bodies)
    click(page, ".retry")
    page.wait(f"document.querySelectorAll('.facts').length === 2 && {texts('assistant')}.length === 2")
    assert len(server.bodies) == before + 1
    assert server.bodies[-1]["messages"] == server.bodies[-2]["messages"]
    page.open(server.url)
    page.wait(f"{texts('assistant')}.length === 2")
    assert page.ask(texts("user")) == ["one", "zwei"]
    assert (
        page.ask("document.querySelectorAll('.see-tokens').length") == 2
    )  # their probabilities are kept too


def test_an_answer_that_is_cut_short_by_leaving_is_kept(page: Page, server: Scripted) -> None:
    open_page(page, server)
    server.tokens, server.pace = ["word "] * 200, 0.02
    page.type("long")
    page.enter()
    page.wait(f"{texts('assistant')}[0]?.length > 20")
    page.open(server.url)
    page.wait(f"{texts('assistant')}[0]?.length > 20")
    assert page.ask(texts("user")) == ["long"]


def test_what_the_browser_kept_may_be_of_any_make(page: Page, server: Scripted) -> None:
    open_page(page, server)
    half = '[{"role": "assistant", "content": "x", "facts": {}}]'
    for kept in ("{oops", "null", "7", '{"a": 1}', half, "[null]", '[{"role": "user", "content": "ok"}]'):
        # leaving the page keeps what is on it: this comes after that
        page.ask(
            f"addEventListener('pagehide', () => {{ localStorage['arriero-chat'] = {json.dumps(kept)} }})"
        )
        page.open(server.url)
        page.wait("document.querySelector('#question') && !document.querySelector('#question').disabled")
        assert page.ask(texts("user")) == (["ok"] if "ok" in kept else [])
    click(page, ".retry")
    page.wait("document.querySelector('.facts')")
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "ok"}]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_everything_can_be_read_and_nothing_sticks_out(
    page: Page, server: Scripted, width: int, dark: bool
) -> None:
    page.dark(dark)
    open_page(page, server, width, 740)
    assert page.ask(CONTRAST) == []
    server.tokens = [MARKDOWN, " and", " a", " word" + "y" * 300]
    say(page, "x" * 200)
    click(page, ".facts")
    assert page.ask(CONTRAST) == []
    assert page.ask("document.documentElement.scrollWidth") == width
    click(page, ".see-tokens")
    page.ask("document.querySelectorAll('.tokens span')[3].focus()")
    assert page.ask(visible("#tip"))
    assert page.ask(CONTRAST) == []
    click(page, "#tune")
    assert page.ask(CONTRAST) == []
    assert page.ask("document.documentElement.scrollWidth") == width
    assert page.ask("document.querySelector('#scroll').inert") == (width == 360)


def test_the_tabulator_goes_through_in_the_order_of_reading(page: Page, server: Scripted) -> None:
    open_page(page, server)
    say(page, "tab")
    page.ask("document.querySelector('#model').focus()")
    stops = ["model"]
    while stops[-1] != "question":
        page.press("Tab", 9)
        stops.append(page.ask("document.activeElement.id || document.activeElement.className"))
        assert page.ask("document.activeElement.matches(':focus-visible')"), stops
        assert len(stops) < 12, stops
    assert stops == ["model", "tune", "new", "edit", "retry", "copy", "see-tokens", "facts", "question"]


def test_stop_by_escape_and_a_server_that_has_gone(page: Page, server: Scripted) -> None:
    open_page(page, server)
    server.tokens, server.pace = ["word "] * 500, 0.02
    page.type("long")
    page.enter()
    page.wait(f"{texts('assistant')}[0]?.length > 20")
    assert page.ask("document.querySelector('#log').getAttribute('aria-busy')") == "true"
    page.press("Escape", 27)
    page.wait("document.querySelector('.facts')")
    assert "stopped" in page.ask("document.querySelector('.facts').textContent")
    assert page.ask("document.querySelector('#status').textContent").startswith("Answer: word")
    server.pace = 0.0
    say(page, "again", 2)
    page.ask("window.fetch = () => Promise.reject(new TypeError('gone'))")
    page.type("anyone?")
    page.enter()
    page.wait(visible(".problem"))
    assert "does not answer" in page.ask("document.querySelector('.problem').textContent")


def test_told_problems(page: Page, server: Scripted) -> None:
    """An error in the middle of a stream is shown beside what came before it."""
    open_page(page, server)
    whole = server.chunks

    def broken(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for number, chunk in enumerate(whole(body)):
            yield chunk if number < 2 else {"error": {"message": "the engine failed on this request"}}

    server.chunks = broken  # type: ignore[method-assign]
    page.type("break")
    page.enter()
    page.wait(visible(".problem"))
    assert page.ask(texts("assistant")) == ["Hello,"]
    assert "engine failed" in page.ask("document.querySelector('.problem').textContent")
    server.chunks = whole  # type: ignore[method-assign]
    click(page, ".retry")
    page.wait(f"JSON.stringify({texts('assistant')}) === '[\"Hello, you!\"]'")
    assert page.ask("document.querySelector('.problem')") is None
