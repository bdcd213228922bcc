"""Text to ids and back, over the `tokenizers` library; loads in transformers' AutoTokenizer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as Core

from arriero.artifacts.commit import write_bytes_atomic, write_json_atomic
from arriero.errors import ArrieroError
from arriero.tokenization.chat import ChatTemplate
from arriero.tokenization.config import CONFIG_FILE, read_config
from arriero.tokenization.pieces import Pieces, without_first_space
from arriero.tokenization.special import END_OF_TURN, USUAL_NAMES

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer:
    """A tokenizer of any kind with its special tokens and its chat template.

    Text is always plain: a special token's name inside a text is encoded as the characters that it is made of.
    Special ids come only from ``bos=``/``eos=`` and from the chat template's own literals.
    """

    def __init__(self, json_text: str, config: dict[str, Any]) -> None:
        """``json_text``: the content of tokenizer.json; ``config``: that of tokenizer_config.json."""
        self._json = json_text
        self._config = config
        self._core = _core(json_text)
        self._core.encode_special_tokens = True  # a special token's name in a text is not the special token
        for key in ("bos_token", "eos_token", "pad_token"):
            self._named_id(key)  # a name that is not in the vocabulary is refused now

    # ------------------------------------------------------------------------------------- files

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """The tokenizer of a folder, or a tokenizer's file of any known format (see ``load_tokenizer``).

        Raises:
            ArrieroError: a file is missing or is no tokenizer.
        """
        from arriero.tokenization.load import (
            load_tokenizer,
        )  # it makes Tokenizers, so it lies above this file

        return load_tokenizer(Path(path))

    @classmethod
    def read_json(cls, path: Path) -> Tokenizer:
        """The tokenizer of one tokenizer.json, with tokenizer_config.json and chat_template.jinja beside it.

        Raises:
            ArrieroError: it is missing or is no tokenizer.
        """
        try:
            json_text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise ArrieroError(f"{path.parent} holds no tokenizer: it has no {path.name}") from None
        except UnicodeDecodeError as error:
            raise ArrieroError(f"{path} is not UTF-8 (byte {error.start})") from None
        config = read_config(path.parent)
        try:
            return cls(json_text, config)
        except ArrieroError as error:
            raise ArrieroError(f"{path.parent}: {error}") from None
        except Exception as error:  # the library raises bare Exception
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArrieroError(f"{path} is no tokenizer: {reason}") from None

    def with_config(self, **changes: Any) -> Tokenizer:
        """The same tokenizer with other entries in tokenizer_config.json (None takes an entry out)."""
        config = {key: value for key, value in {**self._config, **changes}.items() if value is not None}
        return Tokenizer(self._json, config)

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
        """Number of ids, special ones and gaps included: one more than the largest."""
        return len(self._vocabulary)

    @property
    def definition(self) -> dict[str, Any]:
        """The content of tokenizer.json."""
        definition: dict[str, Any] = json.loads(self._json)
        return definition

    @property
    def config(self) -> dict[str, Any]:
        """The content of tokenizer_config.json."""
        return dict(self._config)

    @cached_property
    def pieces(self) -> Pieces:
        """How pieces are written as bytes."""
        return Pieces.of(self.definition)

    @cached_property
    def bos_id(self) -> int:
        """Begins a text: BOS, BERT's [CLS], or EOS where there is no BOS (GPT-2, Qwen), which then separates texts.

        Raises:
            ArrieroError: the tokenizer has none of these.
        """
        found = self._first_id("bos_token", "cls_token")
        return self.eos_id if found is None else found

    @cached_property
    def eos_id(self) -> int:
        """Ends a text: EOS or BERT's [SEP].

        Raises:
            ArrieroError: the tokenizer has neither.
        """
        found = self._first_id("eos_token", "sep_token")
        if found is None:
            raise ArrieroError(
                f"the tokenizer has no token that ends a text: name it in {CONFIG_FILE}, key eos_token"
            )
        return found

    @cached_property
    def pad_id(self) -> int:
        """Fills up a batch: PAD, or EOS where there is none."""
        found = self._first_id("pad_token")
        return self.eos_id if found is None else found

    @cached_property
    def unk_id(self) -> int | None:
        """Stands for text that cannot be written; None where every text can be (byte-level)."""
        return self._first_id("unk_token")

    @cached_property
    def mask_id(self) -> int | None:
        """Stands for a token to guess, in masked language models; None where there is none."""
        return self._first_id("mask_token")

    @cached_property
    def end_of_turn_id(self) -> int:
        """Ends an answer in a chat: the format's own token, or EOS."""
        ids = (self._core.token_to_id(name) for name in END_OF_TURN)
        found = next((id for id in ids if id is not None), None)
        return self.eos_id if found is None else int(found)

    def token_id(self, name: str) -> int | None:
        """Id of a special token by its name, None when the tokenizer has no such token."""
        return self.special_ids.get(name)

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
        names = {key: name for key in USUAL_NAMES if (name := self._name(key))}
        return ChatTemplate(template, names, self.special_ids, self.encode_pieces)

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for inside a text (a special token: its name)."""
        if not 0 <= id < len(self._bytes):
            raise ArrieroError(f"token id {id} is outside the vocabulary of {len(self._bytes)}")
        return self._bytes[id]

    @cached_property
    def _vocabulary(self) -> list[str | None]:
        """Piece of every id, None for a gap."""
        vocabulary = {id: piece for piece, id in self._core.get_vocab(with_added_tokens=True).items()}
        return [vocabulary.get(id) for id in range(max(vocabulary, default=-1) + 1)]

    @cached_property
    def _bytes(self) -> list[bytes]:
        added, pieces = set(self._core.get_added_tokens_decoder()), self.pieces
        return [
            b"" if piece is None else pieces.bytes_of_added(piece) if id in added else pieces.bytes_of(piece)
            for id, piece in enumerate(self._vocabulary)
        ]

    def _name(self, key: str) -> str | None:
        value = self._config.get(key)
        return value.get("content") if isinstance(value, dict) else value

    def _named_id(self, key: str) -> int | None:
        """Id of the token that the configuration names under ``key``; None when it names none."""
        name = self._name(key)
        if not name:
            return None
        id = self._core.token_to_id(name)
        if id is None:
            raise ArrieroError(f"the tokenizer has no {key} ('{name}' is not in it)")
        return int(id)

    def _first_id(self, *keys: str) -> int | None:
        """Id under the first of ``keys`` that the configuration names, else of the first usual name found."""
        named = (self._named_id(key) for key in keys)
        usual = (self.special_ids.get(name) for key in keys for name in USUAL_NAMES[key])
        return next((id for id in (*named, *usual) if id is not None), None)

    # ------------------------------------------------------------------------------------- text <-> ids

    def encode(
        self, text: str, *, bos: bool = False, eos: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Ids of a text, with BOS before and EOS after it on demand.

        ``parse_special``: names of special tokens in the text become these tokens. Only for text of your own
        making, never for a user's.
        """
        if parse_special:
            ids = self._encode(self._parsing_core.encode_batch_fast, [text])[0].ids
        else:
            ids = self.encode_batch([text])[0]
        return [*([self.bos_id] if bos else []), *ids, *([self.eos_id] if eos else [])]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many plain texts, without BOS and EOS."""
        return [encoding.ids for encoding in self._encode(self._core.encode_batch_fast, texts)]

    def encode_pieces(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and character offsets of the plain stretches of one text, between its special tokens.

        Raises:
            ArrieroError: a text holds half of a surrogate pair, so it is not Unicode text.
        """
        first = self._encode(self._core.encode_batch, texts[:1])
        return first + self._encode(self._continuing_core.encode_batch, texts[1:])

    def encode_pieces_apart(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids, offsets and word numbers of many plain texts, without BOS and EOS."""
        return self._encode(self._core.encode_batch, texts)

    @cached_property
    def _parsing_core(self) -> Core:
        return _core(self._json)

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of a text that goes on from another: without the space that SentencePiece puts before a text."""
        return self._encode(self._bare_core.encode_batch_fast, [text])[0].ids

    @cached_property
    def _continuing_core(self) -> Core:
        """For stretches after a special token: Metaspace's scheme "first" puts its space at the text's start only."""
        return self._variant(without_first_space(self.definition, ("first",)))

    @cached_property
    def _bare_core(self) -> Core:
        return self._variant(without_first_space(self.definition, ("first", "always")))

    def _variant(self, definition: dict[str, Any] | None) -> Core:
        if definition is None:
            return self._core
        core = _core(json.dumps(definition))
        core.encode_special_tokens = True
        return core

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
        return self.decode_bytes(ids, skip_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = True) -> bytes:
        """The bytes that ids stand for, whether or not they are UTF-8."""
        special = self._special_set if skip_special else frozenset()
        return self.pieces.join(self.token_bytes(id) for id in ids if id not in special)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, so that ``decode_bytes`` gives them back; UTF-8 in them is encoded as text.

        Raises:
            ArrieroError: the tokenizer is not byte-level.
        """
        if self.pieces.kind != "byte_level":
            raise ArrieroError("only a byte-level tokenizer can encode bytes that are not UTF-8")
        byte_ids = {self.token_bytes(id): id for id in reversed(range(self.vocab_size))}
        ids: list[int] = []
        # What is not UTF-8 comes out as lone halves of surrogate pairs, which text never holds.
        for part in re.split("([\udc80-\udcff]+)", data.decode("utf-8", "surrogateescape")):
            if part and "\udc80" <= part[0] <= "\udcff":
                ids += (byte_ids[bytes([byte])] for byte in part.encode("utf-8", "surrogateescape"))
            else:
                ids += self.encode(part)
        return ids

    @cached_property
    def _special_set(self) -> frozenset[int]:
        return frozenset(self.special_ids.values())


def _core(json_text: str) -> Core:
    core = Core.from_str(json_text)
    core.no_truncation()
    core.no_padding()
    return core
