"""A tiny random model and a tokenizer of single bytes, so that most characters cross token borders."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Core
from torch import Tensor, nn

from arriero.inference.engine import Engine
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.protocol import AttentionCache
from arriero.tokenization.config import default_config
from arriero.tokenization.special import SPECIAL_TOKENS
from arriero.tokenization.tokenizer import Tokenizer


def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: i for i, name in enumerate([*SPECIAL_TOKENS, *alphabet])}
    core = Core(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    return Tokenizer(core.to_str(), default_config())


def tiny_model(seed: int = 0, **changes: object) -> Decoder:
    shape = {
        "vocab_size": 261,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "d_ff": 64,
        "context_length": 160,
        "init_std": 0.4,  # far from uniform, so that greedy answers differ and ties don't happen
    }
    model = Decoder(DecoderConfig.model_validate(shape | changes))
    model.init_weights(seed)
    return model.eval()


class ScriptedModel(nn.Module):
    """Says exactly what a test wants it to say: token ``script[position - prompt_length]``, the last one for
    ever after. Every step takes ``delay`` seconds."""

    def __init__(
        self,
        prompt_length: int,
        script: list[int],
        vocab_size: int,
        context_length: int = 160,
        delay: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = DecoderConfig(
            vocab_size=vocab_size,
            d_model=4,
            n_layers=1,
            n_heads=1,
            n_kv_heads=1,
            head_dim=4,
            d_ff=4,
            context_length=context_length,
        )
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("script", torch.tensor([0] * (prompt_length - 1) + script))
        self.delay = delay

    def hidden(self, ids: Tensor, *, positions: Tensor, cache: AttentionCache) -> Tensor:
        time.sleep(self.delay)
        return positions[..., None].clamp(max=len(self.script) - 1)

    def logits(self, hidden: Tensor) -> Tensor:
        return nn.functional.one_hot(self.script[hidden[..., 0]], self.config.vocab_size).float() * 50


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def model() -> Decoder:
    return tiny_model()


@pytest.fixture
def engine(model: Decoder, tokenizer: Tokenizer) -> Engine:
    return Engine(model, tokenizer, max_batch=4)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Decoder]:
    """Makes tiny models: ``tiny(seed, **changes of the shape)``."""
    return tiny_model


@pytest.fixture(scope="session")
def scripted() -> type[ScriptedModel]:
    """A model that says what a test wants it to say."""
    return ScriptedModel
