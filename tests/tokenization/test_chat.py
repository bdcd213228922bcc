from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.tokenization.chat import ChatTemplate
from arriero.tokenization.special import SPECIAL_TOKENS
from arriero.tokenization.tokenizer import Tokenizer

HOSTILE = st.lists(
    st.sampled_from(
        [*SPECIAL_TOKENS, "<|im_", "start|>", "\uf8d0", "\uf8d01", "\uf8d02", "{{", "%}", "\n", " ", "hi"]
    )
    | st.text(max_size=4)
).map("".join)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": HOSTILE}
)
MESSAGES = st.lists(MESSAGE, min_size=1, max_size=5)


def expected(messages: list[dict[str, str]]) -> str:
    body = (
        f"<|im_start|>{m['role']}\n{m['content'].strip() if m['role'] == 'assistant' else m['content']}<|im_end|>\n"
        for m in messages
    )
    return "<|begin_of_text|>" + "".join(body)


@given(MESSAGES)
def test_text_ids_and_mask_of_any_conversation(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> None:
    rendered = tokenizer.chat.render(messages)
    assert rendered.text == expected(messages)
    assert tokenizer.decode(rendered.ids, skip_special=False) == rendered.text
    # only the template's own literals are special ids
    n = len(messages)
    counts = [rendered.ids.count(id) for id in tokenizer.special_ids.values()]
    assert counts == [1, 0, 0, n, n]
    supervised = [id for id, on in zip(rendered.ids, rendered.mask, strict=True) if on]
    answers = [m["content"].strip() + "<|im_end|>" for m in messages if m["role"] == "assistant"]
    assert tokenizer.decode(supervised, skip_special=False) == "".join(answers)


@given(MESSAGES, HOSTILE)
def test_ids_of_the_prompt_start_the_ids_of_the_answered_conversation(
    tokenizer: Tokenizer, messages: list[dict[str, str]], answer: str
) -> None:
    prompt = tokenizer.chat.render(messages, add_generation_prompt=True)
    whole = tokenizer.chat.render([*messages, {"role": "assistant", "content": answer}])
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert prompt.mask == tokenizer.chat.render(messages).mask + [False] * (
        len(prompt.ids) - len(tokenizer.chat.render(messages).ids)
    )


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "at least one message"),
        ("hello", "at least one message"),
        ([{"role": "tool", "content": "x"}], "message 1 has the unknown role 'tool'"),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": None}],
            "message 2 should be a string",
        ),
        ([{"role": "user"}], "should be a string, not NoneType"),
        (["hello"], "message 1 should be an object"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
    ],
)
def test_what_cannot_be_rendered_is_one_clear_line(
    tokenizer: Tokenizer, messages: list[object], said: str
) -> None:
    with pytest.raises(ArrieroError, match=said):
        tokenizer.chat.render(messages)  # type: ignore[arg-type]


def chat_of(tokenizer: Tokenizer, template: str) -> ChatTemplate:
    return ChatTemplate(
        template, {"bos_token": "<|begin_of_text|>"}, tokenizer.special_ids, tokenizer.encode_pieces
    )


def test_other_templates(tokenizer: Tokenizer) -> None:
    llama3_style = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n\n' + m['content'] | trim + '<|im_end|>' }}"
        "{% endfor %}"
    )
    rendered = chat_of(tokenizer, llama3_style).render([{"role": "user", "content": "  <|pad|> "}])
    assert rendered.text == "<|im_start|>user\n\n<|pad|><|im_end|>"
    assert tokenizer.special_ids["<|pad|>"] not in rendered.ids
    assert not any(rendered.mask)  # no answer, nothing is supervised
    with pytest.raises(ArrieroError, match="changes the contents"):
        chat_of(tokenizer, "{% for m in messages %}{{ m['content'][1:] }}{% endfor %}")
    stripping = chat_of(tokenizer, "{% for m in messages %}{{ m['content'].strip() }}{% endfor %}")
    assert stripping.render([{"role": "user", "content": "  x\n"}]).text == "x"
    with pytest.raises(ArrieroError, match="not valid Jinja"):
        chat_of(tokenizer, "{% for %}")
    refusing = chat_of(tokenizer, "{{ raise_exception('no') }}")
    with pytest.raises(ArrieroError, match="refuses the conversation: no"):
        refusing.render([{"role": "user", "content": "x"}])


def test_templates_may_tell_the_date(tokenizer: Tokenizer) -> None:
    before = datetime.now().strftime("%d %b %Y")
    dated = chat_of(tokenizer, "{{ strftime_now('%d %b %Y') }}: {{ messages[0]['content'] }}")
    rendered = dated.render([{"role": "user", "content": "hi"}])
    assert rendered.text in (f"{before}: hi", f"{datetime.now():%d %b %Y}: hi")


def test_templates_run_in_a_sandbox(tokenizer: Tokenizer) -> None:
    breaking_out = chat_of(tokenizer, "{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(ArrieroError, match="refuses"):
        breaking_out.render([{"role": "user", "content": "x"}])


def test_without_a_template(tokenizer: Tokenizer) -> None:
    bare = Tokenizer(tokenizer._json, {})
    with pytest.raises(ArrieroError, match="no chat template"):
        bare.chat  # noqa: B018
