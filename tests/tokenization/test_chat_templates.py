"""Templates of other models: text, ids and mask, with and without ``{% generation %}``."""

from __future__ import annotations

import pytest

from arriero.errors import ArrieroError
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.extend import add_special_tokens
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_WITHOUT_PROMPT = CHATML.split("{% if add_generation_prompt")[0]
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
PLAIN = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TEMPLATES = {"llama2": LLAMA2, "llama3": LLAMA3, "chatml": CHATML, "chatml-bare": CHATML_WITHOUT_PROMPT, "zephyr": ZEPHYR, "plain": PLAIN}  # fmt: skip
SPECIAL = (
    "<s>",
    "</s>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
)
CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": " Who drives llamas?"},
    {"role": "assistant", "content": "The arriero.\n"},
    {"role": "user", "content": "Where?"},
    {"role": "assistant", "content": "Over the mountains, [INST] and </s>."},
]
SUPERVISED = {
    "llama2": ["The arriero. </s>", "Over the mountains, [INST] and </s>. </s>"],
    "llama3": ["The arriero.<|eot_id|>", "Over the mountains, [INST] and </s>.<|eot_id|>"],
    "chatml": ["The arriero.\n<|im_end|>", "Over the mountains, [INST] and </s>.<|im_end|>"],
    "chatml-bare": ["The arriero.\n<|im_end|>", "Over the mountains, [INST] and </s>.<|im_end|>"],
    "zephyr": ["\nThe arriero.\n</s>", "\nOver the mountains, [INST] and </s>.</s>"],
    "plain": [" The arriero.", " Over the mountains, [INST] and </s>."],
}


def byte_level() -> Tokenizer:
    return train_bpe([*sample_texts(20_000), "user: assistant: [INST] [/INST]"] * 2, 420, "llama3", 2)


def byte_fallback() -> Tokenizer:
    pytest.importorskip("sentencepiece")
    from arriero.tokenization.sentencepiece_train import train_sentencepiece

    return train_sentencepiece([*sample_texts(20_000), "user: assistant: [INST] [/INST]"], 420)


@pytest.fixture(scope="module", params=[byte_level, byte_fallback])
def base(request: pytest.FixtureRequest) -> Tokenizer:
    return add_special_tokens(request.param(), SPECIAL).with_config(bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("name", TEMPLATES)
def test_mask_text_and_ids_agree(base: Tokenizer, name: str) -> None:
    tokenizer = base.with_config(chat_template=TEMPLATES[name])
    rendered = tokenizer.chat.render(CONVERSATION)
    assert len(rendered.ids) == len(rendered.mask)
    assert _decoded(tokenizer, rendered.ids, rendered.text) == rendered.text.replace(" ", "")
    runs = _runs(tokenizer, rendered.ids, rendered.mask)
    # a token may begin in the header (a space, a newline) and end in the answer
    assert [run.strip() for run in runs] == [answer.strip() for answer in SUPERVISED[name]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_served_prompt_begins_the_trained_ids(base: Tokenizer, name: str) -> None:
    tokenizer = base.with_config(chat_template=TEMPLATES[name])
    whole = tokenizer.chat.render(CONVERSATION)
    prompt = tokenizer.chat.render(CONVERSATION[:-1], add_generation_prompt=True)
    assert whole.text.startswith(prompt.text)
    if name in ("llama3", "chatml", "chatml-bare"):  # in the others header and answer may share a token
        assert whole.ids[: len(prompt.ids)] == prompt.ids and whole.mask[: len(prompt.ids)] == prompt.mask


def test_marks_in_the_template_give_the_same_mask(base: Tokenizer) -> None:
    answer = "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    marked = CHATML.replace(
        "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}",
        "{{ '<|im_start|>' + message['role'] + '\\n' }}{% if message['role'] == 'assistant' %}" + answer
        + "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}",
    )  # fmt: skip
    inferred = base.with_config(chat_template=CHATML).chat.render(CONVERSATION)
    assert base.with_config(chat_template=marked).chat.render(CONVERSATION) == inferred


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}{{ m.content }}\n{% endif %}{% endfor %}",
            "message 3 when others follow",
        ),
        (
            CHATML.replace("<|im_start|>assistant\\n' }}", "<|im_start|>assistant\\n<think>' }}"),
            "in other words",
        ),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}\n{% endif %}{% endfor %}",
            "does not end with",
        ),
    ],
)
def test_a_mask_that_cannot_be_right_is_refused(base: Tokenizer, template: str, said: str) -> None:
    chat = base.with_config(chat_template=template).chat
    with pytest.raises(ArrieroError, match=said) as caught:
        chat.render(CONVERSATION)
    assert "generation" in str(caught.value)
    assert chat.render(CONVERSATION[:4], add_generation_prompt=True).ids  # serving needs no mask


def test_what_a_template_may_not_do(base: Tokenizer) -> None:
    for template, said in {
        "{{ messages[0].content[1:] }}{{ messages[0].content }}": "changes the contents",
        "{{ ''.__class__.__mro__ }}": "refuses the conversation",
        "{{ messages.append(1) }}": "refuses the conversation",
        "{% for %}": "not valid Jinja",
    }.items():
        with pytest.raises(ArrieroError, match=said):
            base.with_config(chat_template=template).chat.render(CONVERSATION[:2])


def _runs(tokenizer: Tokenizer, ids: list[int], mask: list[bool]) -> list[str]:
    runs: list[list[int]] = [[]]
    for id, on in zip(ids, mask, strict=True):
        if on:
            runs[-1].append(id)
        elif runs[-1]:
            runs.append([])
    return [b"".join(map(tokenizer.token_bytes, run)).decode() for run in runs if run]


def _decoded(tokenizer: Tokenizer, ids: list[int], text: str) -> str:
    # SentencePiece puts a space before every stretch between special tokens
    return tokenizer.decode(ids, skip_special=False).replace(" ", "")
