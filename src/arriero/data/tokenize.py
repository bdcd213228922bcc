"""The stage ``tokenize``: a corpus to token shards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import (
    Context,
    CorpusSpec,
    Input,
    Inputs,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    TokenizerSpec,
    TokenSplitSpec,
    TokensSpec,
    open_input,
    register,
)

if TYPE_CHECKING:
    from arriero.data.shards import SplitMeta

TOKENIZER_FOLDER = "tokenizer"
"""Where a tokens artifact keeps a copy of its tokenizer."""
_BYTES_PER_TOKEN_IN_WORK = 180
"""Of a batch while it is encoded: offsets, strings and ids in the `tokenizers` library; measured."""


class TokenizeSettings(StageSettings):
    """Settings of the stage ``tokenize``."""

    shard_tokens: int = Field(
        default=1 << 24,
        ge=1,
        le=1 << 32,
        description="most tokens of a shard; a longer document has one of its own",
    )


@register
class Tokenize(Stage[TokenizeSettings]):
    """Encode every document as ``BOS ... EOS`` and write the ids of each split one after the other.

    A run that was killed goes on after the last whole shard.
    """

    kind = "tokenize"
    version = 1
    makes = "tokens"
    inputs = {
        "corpus": Input("corpus", "documents to encode"),
        "tokenizer": Input("tokenizer", "what encodes them"),
    }
    help = "a corpus to packed token shards"
    Settings = TokenizeSettings

    def plan(self, settings: TokenizeSettings, specs: Specs, device: DeviceProfile) -> Plan:
        corpus: CorpusSpec = specs["corpus"]
        tokenizer: TokenizerSpec = specs["tokenizer"]
        splits = {
            name: TokenSplitSpec(
                documents=split.documents,
                tokens=round(split.bytes / tokenizer.bytes_per_token) + 2 * split.documents,
                bytes=split.bytes,
            )
            for name, split in corpus.splits.items()
        }
        n_bytes = sum(split.bytes for split in splits.values())
        rate = device.rate("tokenize.bytes_per_s")
        seconds = Quantity.unknown("s", "no rate tokenize.bytes_per_s in the device profile")
        if rate is not None:
            seconds = Quantity.band(
                0.2 + n_bytes / rate.per_s, max(rate.spread, 0.35), "s", "modelled", "measured rate"
            )
        return Plan(
            TokensSpec(vocab_size=tokenizer.vocab_size, splits=splits),
            Estimate(
                seconds=seconds,
                peak_memory=_memory(settings, splits, tokenizer.bytes_per_token, device),
                flops=Quantity.exact(0.0, "FLOP", "modelled", "no floating-point work"),
            ),
            [f"{tokenizer.bytes_per_token:.2f} bytes per token, and BOS and EOS of every document"],
        )

    def run(self, settings: TokenizeSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.artifacts.commit import write_bytes_atomic
        from arriero.data.corpus import Corpus
        from arriero.data.shard_writer import ShardWriter, publish
        from arriero.data.shards import META_FILE, TokensMeta, token_type
        from arriero.tokenization.tokenizer import Tokenizer

        corpus_artifact: Artifact = inputs["corpus"]
        spec: CorpusSpec = open_input(corpus_artifact, CorpusSpec)
        tokenizer = Tokenizer.load(inputs["tokenizer"].path)
        corpus = Corpus(corpus_artifact.path)
        total = sum(split.bytes for split in spec.splits.values())
        done = 0
        splits: dict[str, SplitMeta] = {}
        for split in corpus.splits:

            def tick(n_bytes: int, before: int = done, split: str = split) -> None:
                if context.stop_requested():
                    raise Interrupted(f"stopped in split {split}; the whole shards are kept")
                context.progress(before + n_bytes, max(total, before + n_bytes), "B", split=split)

            writer = ShardWriter(context.state, split, tokenizer, settings.shard_tokens)
            splits[split] = writer.write(corpus.iter_documents(split), tick)
            done += splits[split].bytes
        if not splits["train"].tokens:
            raise ArrieroError(f"{corpus_artifact.path} has no training text to encode")
        meta = TokensMeta(
            dtype=token_type(tokenizer.vocab_size), vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint,
            bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, splits=splits,
        )  # fmt: skip
        publish(context.state, context.folder, meta)
        tokenizer.save(context.folder / TOKENIZER_FOLDER)
        write_bytes_atomic(context.folder / META_FILE, (meta.model_dump_json(indent=2) + "\n").encode())
        return Outcome(
            TokensSpec(
                vocab_size=tokenizer.vocab_size,
                splits={
                    name: TokenSplitSpec(documents=s.documents, tokens=s.tokens, bytes=s.bytes)
                    for name, s in splits.items()
                },
            ),
            {
                "dtype": meta.dtype,
                "tokenizer": tokenizer.fingerprint,
                "shards": {name: len(split.shards) for name, split in splits.items()},
                "bytes_per_token": {name: round(_ratio(split), 4) for name, split in splits.items()},
            },
        )

    def probe(self) -> dict[str, Rate]:
        from arriero.tokenization.bpe import train_bpe
        from arriero.tokenization.sample_text import sample_texts

        texts = sample_texts(2_000_000)
        tokenizer = train_bpe(texts[:500], 4096, "llama3", 2)
        started = time.perf_counter()
        for start in range(0, len(texts), 256):
            tokenizer.encode_batch(texts[start : start + 256])
        per_s = sum(map(len, texts)) / (time.perf_counter() - started)
        return {"tokenize.bytes_per_s": Rate(per_s=per_s, spread=0.4, unit="B")}


def _memory(
    settings: TokenizeSettings,
    splits: dict[str, TokenSplitSpec],
    bytes_per_token: float,
    device: DeviceProfile,
) -> Quantity:
    """The process, a batch in work, and the shard that is being filled."""
    from arriero.data.shard_writer import BATCH_BYTES

    shard = 8 * min(settings.shard_tokens, max(split.tokens for split in splits.values()))
    batch = _BYTES_PER_TOKEN_IN_WORK * BATCH_BYTES / bytes_per_token
    return Quantity.band(
        device.process_bytes + shard + batch, 0.3, "B", "modelled", "process, one shard, one batch"
    )


def _ratio(split: SplitMeta) -> float:
    """Bytes that a token stands for, BOS and EOS not counted."""
    return split.bytes / max(split.tokens - 2 * split.documents, 1)


def tokenizer_folder(tokens: Path) -> Path:
    """Where a tokens artifact keeps its tokenizer."""
    return tokens / TOKENIZER_FOLDER
