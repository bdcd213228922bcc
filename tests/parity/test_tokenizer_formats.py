"""Tokenizers of other projects: the same ids as `sentencepiece`, `tiktoken`, `transformers` and llama.cpp give."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.extend import add_special_tokens
from arriero.tokenization.from_gguf import from_gguf_metadata
from arriero.tokenization.infill import CODE_LLAMA, infill_prompt
from arriero.tokenization.load import load_tokenizer
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.sentencepiece_model import parse_model, to_tokenizer
from arriero.tokenization.tiktoken_ranks import from_ranks
from arriero.tokenization.tokenizer import Tokenizer

pytestmark = pytest.mark.parity
ROOT = Path(__file__).resolve().parent.parent.parent
PUBLISHED = ROOT.parent / "shared" / "data" / "tokenizers"
"""Published tokenizers, too large for the repository; beside it where there are any."""
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="no published tokenizers beside the repository"
)

TEXTS = [*sample_texts(60_000), "Zahlen 12 1234, it's don't WE'LL éàü 日本語 中国 中国人\n\n\t  x=  y\n" * 3]
PIECE = st.sampled_from(
    [" ", "  ", "\n", "\r\n", "\t", "\x00", "1", "1234", "é", "🦙", "日本", "中国", "'s", "'S", "don't", "the ", "e t",
     "aaaa", "\u00a0", "\u3000", "\u0085", "<s>", "<unk>", "...", "A"]
)  # fmt: skip
TEXT = st.lists(PIECE | st.text(max_size=6), max_size=12).map("".join)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def sentencepiece(request: pytest.FixtureRequest) -> tuple[Tokenizer, Any]:
    library = pytest.importorskip("sentencepiece")
    from arriero.tokenization.sentencepiece_train import train_model

    model = train_model(TEXTS, 600, request.param)
    return to_tokenizer(parse_model(model)), library.SentencePieceProcessor(model_proto=model)


@given(TEXT)
@settings(max_examples=300)
def test_sentencepiece_ids_and_text(sentencepiece: tuple[Tokenizer, Any], text: str) -> None:
    ours, theirs = sentencepiece
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity", "nfkc_cf"])
@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize("options", [{}, {"byte_fallback": True}, {"add_dummy_prefix": False}, {"user_defined_symbols": ["<x>", "thou"]}])  # fmt: skip
def test_other_sentencepiece_models(rule: str, model_type: str, options: dict[str, Any]) -> None:
    library = pytest.importorskip("sentencepiece")
    import io

    written = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in TEXTS for line in text.split("\n")), model_writer=written,
        vocab_size=600, model_type=model_type, normalization_rule_name=rule, minloglevel=2, hard_vocab_limit=False,
        character_coverage=1.0, **options,
    )  # fmt: skip
    ours = to_tokenizer(parse_model(written.getvalue()))
    theirs = library.SentencePieceProcessor(model_proto=written.getvalue())
    for text in ("Hello world", "  The ﬁne  Ａｐｐｌｅ ", "中国人 日本語", "don't 1234", "", " ", "e t a n"):
        assert ours.encode(text) == theirs.encode(text), text


@given(TEXT, st.sampled_from(sorted(SPLIT_PATTERNS)))
@settings(max_examples=200)
def test_tiktoken_ids(ranked: dict[bytes, int], text: str, pattern: str) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    assume(len(SPLIT_PATTERNS[pattern]) == 1)
    theirs = tiktoken.Encoding(
        "x", pat_str=SPLIT_PATTERNS[pattern][0], mergeable_ranks=ranked, special_tokens={}
    )
    assert from_ranks(ranked, pattern).encode(text) == theirs.encode(text, disallowed_special=())


@pytest.fixture(scope="module")
def ranked() -> dict[bytes, int]:
    trained = train_bpe(TEXTS, 700, "llama3", 2)
    return {trained.token_bytes(id): id - 5 for id in range(5, trained.vocab_size)}


@needs_published
def test_golden_ids_of_published_tokenizers() -> None:
    rows = [json.loads(line) for line in (PUBLISHED / "golden_ids.jsonl").read_text().splitlines()]
    for name in rows[0]["ids"]:
        tokenizer = _published(name)
        for row in rows:
            ids = tokenizer.encode(row["text"], parse_special=name == "minimind")
            assert ids == row["ids"][name], (name, row["text"])
            if not name.startswith("bert"):
                assert tokenizer.decode(ids, skip_special=False) == row["text"]


@needs_published
@pytest.mark.parametrize("name", ["gpt-2", "bert-bge", "phi-3"])
def test_golden_ids_of_llama_cpp(name: str) -> None:
    gguf = pytest.importorskip("gguf")
    file = PUBLISHED / "ggml_vocab" / f"ggml-vocab-{name}.gguf"
    metadata = {key: field.contents() for key, field in gguf.GGUFReader(str(file)).fields.items()}
    tokenizer = from_gguf_metadata(metadata)
    assert load_tokenizer(file).fingerprint == tokenizer.fingerprint
    texts = file.with_name(file.name + ".inp").read_text().split("\n__ggml_vocab_test__\n")
    expected = file.with_name(file.name + ".out").read_text().split("\n")
    for text, line in zip(texts, expected, strict=True):
        assert tokenizer.encode(text) == [int(id) for id in line.split()], repr(text)


@needs_published
@given(TEXT)
@settings(max_examples=100, deadline=None)
def test_published_ranks_and_sentencepiece_on_any_text(text: str) -> None:
    for name in ("cl100k", "qwen", "mistral_v1"):
        ours, theirs = _published(name), _reference(name)
        assert ours.encode(text) == theirs(text)
        if name != "mistral_v1":
            assert ours.decode(ours.encode(text)) == text


@cache
def _published(name: str) -> Tokenizer:
    return load_tokenizer(PUBLISHED / name)


@cache
def _reference(name: str) -> Callable[[str], list[int]]:
    (file,) = (PUBLISHED / name).iterdir()
    if name == "mistral_v1":
        library = pytest.importorskip("sentencepiece")
        encode: Callable[[str], list[int]] = library.SentencePieceProcessor(str(file)).encode
        return encode
    tiktoken = pytest.importorskip("tiktoken")
    lines = (line.split() for line in file.read_bytes().splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    (regex,) = SPLIT_PATTERNS[name]
    encoding = tiktoken.Encoding(name, pat_str=regex, mergeable_ranks=ranks, special_tokens={})
    return lambda text: encoding.encode(text, disallowed_special=())


def _in_transformers(tokenizer: Tokenizer, folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(folder)
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def test_what_we_write_loads_in_transformers(tmp_path: Path) -> None:
    from arriero.tokenization.sentencepiece_train import train_sentencepiece
    from arriero.tokenization.wordpiece_train import train_wordpiece

    pytest.importorskip("sentencepiece")
    made = {
        "sentencepiece": train_sentencepiece(TEXTS, 500),
        "unigram": train_sentencepiece(TEXTS, 500, "unigram"),
        "wordpiece": train_wordpiece(TEXTS, 500),
    }
    for name, ours in made.items():
        theirs = _in_transformers(ours, tmp_path / name)
        for text in ("Hello 1234 日本", "  two  spaces\n", "中国人 🦙", ""):
            ids = ours.encode(text)
            assert theirs(text, add_special_tokens=False)["input_ids"] == ids
            framed = [ours.bos_id, *ids, ours.eos_id] if name == "wordpiece" else [ours.bos_id, *ids]
            assert theirs(text)["input_ids"] == framed
            assert theirs.decode(ids, clean_up_tokenization_spaces=False) == ours.decode(
                ids, skip_special=False
            )
            assert theirs.decode(
                framed, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ) == ours.decode(framed)
        assert (theirs.pad_token_id, theirs.eos_token_id or theirs.sep_token_id) == (ours.pad_id, ours.eos_id)


def test_bert_vocabulary_as_transformers_reads_it() -> None:
    transformers = pytest.importorskip("transformers")
    file = ROOT / "tests" / "data" / "tokenizers" / "bert_uncased_vocab.txt"
    vocab = {piece: id for id, piece in enumerate(file.read_text("utf-8").split("\n")[:-1])}
    try:
        theirs = transformers.BertTokenizer(vocab=vocab)
    except TypeError:  # transformers 4 reads the file itself
        theirs = transformers.BertTokenizerFast(vocab_file=str(file))
    ours = load_tokenizer(file)
    for text in (
        "Hello, World!",
        "naïve café",
        "日本語 a",
        "unaffable\x00 x\u200dy",
        "[MASK] it",
        "a" * 200,
        "☃",
    ):
        if "[" not in text:
            assert theirs(text)["input_ids"] == ours.encode(text, bos=True, eos=True)
        assert ours.encode(text, parse_special=True) == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("suffix_first", [False, True])
def test_infilling_prompts_of_code_llama(suffix_first: bool) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    from arriero.tokenization.sentencepiece_train import train_sentencepiece

    ours = add_special_tokens(train_sentencepiece([*TEXTS, "def f(x):\n    return x\n" * 3], 600), CODE_LLAMA)
    model = ours.definition["model"]
    # transformers 5 puts SentencePiece's space before the suffix too, unlike version 4, Meta's code and the paper;
    # without that it gives what version 4 gave (it puts a space before the prefix besides)
    try:
        theirs = transformers.CodeLlamaTokenizer(
            vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], add_prefix_space=False
        )
        theirs("a", suffix="b")
    except Exception:
        pytest.skip("this version of transformers builds CodeLlamaTokenizer from files only")
    for prefix, suffix in (
        ("def f(x):\n    ", "\n\nprint(f(1))"),
        (" a", " b"),
        ("x", "y"),
        ("tea ", "  z "),
    ):
        found = theirs(prefix, suffix=suffix, suffix_first=suffix_first)["input_ids"]
        assert infill_prompt(ours, prefix, suffix, suffix_first=suffix_first) == found


def test_chat_templates_without_generation_marks(tmp_path: Path) -> None:
    templates = {
        "llama2": "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip()"
        " + ' [/INST]' }}{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        "llama3": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n\n' + m['content'] | trim + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}",
        "json": "{% for m in messages %}{{ {'role': m['role']} | tojson }}{{ m.content }}{{ eos_token }}\n{% endfor %}",
    }
    messages = [
        {"role": "user", "content": " Who drives llamas? "},
        {"role": "assistant", "content": "The <b>arriero</b>.\n"},
        {"role": "user", "content": "日本?"},
        {"role": "assistant", "content": "é"},
    ]
    base = train_bpe(TEXTS, 600, "llama3", 2)
    for name, template in templates.items():
        ours = base.with_config(chat_template=template)
        theirs = _in_transformers(ours, tmp_path / name)
        for turns, prompt in ((messages, False), (messages[:3], True), (messages[:1], True)):
            rendered = ours.chat.render(turns, add_generation_prompt=prompt)
            found = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
            assert rendered.text == found
            assert rendered.ids == theirs(found, add_special_tokens=False)["input_ids"]
