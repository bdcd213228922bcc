"""Text to ids and back, over the `tokenizers` library; loads in transformers' AutoTokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as Core

from arriero.artifacts.commit import write_bytes_atomic, write_json_atomic
from arriero.errors import ArrieroError
from arriero.tokenization.byte_level import token_to_bytes
from arriero.tokenization.chat import ChatTemplate
from arriero.tokenization.special import BOS, CHATML_TEMPLATE, END_OF_TURN, EOS, PAD

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


def default_config() -> dict[str, Any]:
    """`tokenizer_config.json` of a tokenizer that Arriero trained."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": CHATML_TEMPLATE,
    }


class Tokenizer:
    """A byte-level BPE tokenizer with its special tokens and its chat template.

    Text is always plain: a special token's name inside a text is encoded as the characters that it is made of.
    Special ids come only from ``bos=``/``eos=`` and from the chat template's own literals.
    """

    def __init__(self, json_text: str, config: dict[str, Any]) -> None:
        """``json_text``: the content of tokenizer.json; ``config``: that of tokenizer_config.json."""
        self._json = json_text
        self._config = config
        self._core = Core.from_str(json_text)
        self._core.no_truncation()
        self._core.no_padding()
        self._core.encode_special_tokens = True  # a special token's name in a text is not the special token
        self.bos_id = self._special_id("bos_token", BOS)
        self.eos_id = self._special_id("eos_token", EOS)
        self.pad_id = self._special_id("pad_token", PAD, fallback=self.eos_id)
        self.end_of_turn_id = next(
            (found for name in END_OF_TURN if (found := self._core.token_to_id(name)) is not None),
            self.eos_id,
        )

    # ------------------------------------------------------------------------------------- files

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer in ``folder`` (tokenizer.json, tokenizer_config.json, perhaps chat_template.jinja).

        Raises:
            ArrieroError: a file is missing or is no tokenizer.
        """
        path = Path(folder) / TOKENIZER_FILE
        try:
            json_text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise ArrieroError(f"{folder} holds no tokenizer: it has no {TOKENIZER_FILE}") from None
        except UnicodeDecodeError as error:
            raise ArrieroError(f"{path} is not UTF-8 (byte {error.start})") from None
        config = _read_config(Path(folder))
        try:
            return cls(json_text, config)
        except ArrieroError as error:
            raise ArrieroError(f"{folder}: {error}") from None
        except Exception as error:  # the library raises bare Exception
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArrieroError(f"{path} is no tokenizer: {reason}") from None

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; equal tokenizers give equal bytes."""
        folder = Path(folder)
        write_bytes_atomic(folder / TOKENIZER_FILE, self._json.encode())
        write_json_atomic(folder / CONFIG_FILE, self._config)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of tokenizer.json: equal exactly when the ids are."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    # ------------------------------------------------------------------------------------- vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return int(self._core.get_vocab_size(with_added_tokens=True))

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """Name -> id of every special token."""
        added = self._core.get_added_tokens_decoder()
        return {token.content: id for id, token in sorted(added.items()) if token.special}

    @cached_property
    def chat(self) -> ChatTemplate:
        """The chat template.

        Raises:
            ArrieroError: the tokenizer has none.
        """
        template = self._config.get("chat_template")
        if not isinstance(template, str):
            raise ArrieroError(f"the tokenizer has no chat template ({CONFIG_FILE}, key chat_template)")
        names = {key: name for key in ("bos_token", "eos_token", "pad_token") if (name := self._name(key))}
        return ChatTemplate(template, names, self.special_ids, self.encode_pieces)

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for (a special token: its name)."""
        if not 0 <= id < len(self._bytes):
            raise ArrieroError(f"token id {id} is outside the vocabulary of {len(self._bytes)}")
        return self._bytes[id]

    @cached_property
    def _bytes(self) -> list[bytes]:
        added = set(self._core.get_added_tokens_decoder())
        vocabulary = {id: piece for piece, id in self._core.get_vocab(with_added_tokens=True).items()}
        pieces = (vocabulary.get(id) for id in range(max(vocabulary) + 1))
        return [
            b"" if piece is None else piece.encode() if id in added else token_to_bytes(piece)
            for id, piece in enumerate(pieces)
        ]

    def _name(self, key: str) -> str | None:
        value = self._config.get(key)
        return value.get("content") if isinstance(value, dict) else value

    def _special_id(self, key: str, default: str, fallback: int | None = None) -> int:
        id = self._core.token_to_id(self._name(key) or default)
        if id is None:
            id = fallback
        if id is None:
            raise ArrieroError(f"the tokenizer has no {key} ('{self._name(key) or default}' is not in it)")
        return int(id)

    # ------------------------------------------------------------------------------------- text <-> ids

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Ids of a plain text, with BOS before and EOS after it on demand."""
        return [
            *([self.bos_id] if bos else []),
            *self.encode_batch([text])[0],
            *([self.eos_id] if eos else []),
        ]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many plain texts, without BOS and EOS."""
        return [encoding.ids for encoding in self._encode(self._core.encode_batch_fast, texts)]

    def encode_pieces(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and character offsets of plain texts.

        Raises:
            ArrieroError: a text holds half of a surrogate pair, so it is not Unicode text.
        """
        return self._encode(self._core.encode_batch, texts)

    @staticmethod
    def _encode(encode: Callable[..., list[Encoding]], texts: Sequence[str]) -> list[Encoding]:
        try:
            return encode(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            for text in texts:
                if not isinstance(text, str):
                    raise ArrieroError(
                        f"a text to encode must be a string, not {type(text).__name__}"
                    ) from None
            raise ArrieroError(
                f"a text to encode is not Unicode: it holds half of a surrogate pair ({error})"
            ) from None

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD."""
        special = self._special_set if skip_special else frozenset()
        return b"".join(self.token_bytes(id) for id in ids if id not in special).decode("utf-8", "replace")

    @cached_property
    def _special_set(self) -> frozenset[int]:
        return frozenset(self.special_ids.values())


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        config = {}
    except (ValueError, UnicodeDecodeError):
        raise ArrieroError(f"{path} is not JSON") from None
    if not isinstance(config, dict):
        raise ArrieroError(f"{path} should hold a JSON object")
    template = folder / TEMPLATE_FILE  # newer transformers put the template here
    if "chat_template" not in config and template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    return config
