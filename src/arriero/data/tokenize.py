"""The stage ``tokenize``: a corpus to token shards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.data.execute.settings import ExecutorSettings
from arriero.data.quality.settings import QualitySettings
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
    from arriero.data.corpus import Corpus
    from arriero.data.encode_load import EncodeLoad
    from arriero.data.execute.progress import Progress
    from arriero.data.execute.tasks import Task
    from arriero.data.quality.account import QualityAccount
    from arriero.data.quality.pick import PickJob
    from arriero.data.shards import SplitMeta

TOKENIZER_FOLDER = "tokenizer"
"""Where a tokens artifact keeps a copy of its tokenizer."""
_TRAIN = "train"
_RATE, _FAST_RATE = "tokenize.bytes_per_s", "tokenize.fast_bytes_per_s"
_START_SECONDS = 0.2
_PROOF_SECONDS = 0.8
"""To prove that tiktoken's ids are the tokenizer's."""
_POOL_SECONDS = 0.7
"""Until the first worker process has loaded a tokenizer; measured."""
_WORKER_BYTES = 140 << 20
"""Resident in a worker process that has loaded a tokenizer."""
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
    quality: QualitySettings | None = Field(
        default=None,
        description="take training documents more or less often, by buckets of a measured figure; null: all once",
    )
    executor: ExecutorSettings = Field(
        default=ExecutorSettings(),
        description="who encodes: a task for each file of the corpus; the shards' bytes are the same for all",
        json_schema_extra={"in_key": False},
    )


@register
class Tokenize(Stage[TokenizeSettings]):
    """Encode every document as ``BOS ... EOS`` and write the ids of each split one after the other.

    With ``quality`` good documents stand there several times and bad ones seldom: how often is decided by the document's
    identifier and the seed, and `quality.json` says what came of it. A run that was killed goes on after the last whole
    shard.
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
        from arriero.data.quality.foresee import foresee

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
        load = _load(settings, corpus)
        notes = [f"{tokenizer.bytes_per_token:.2f} bytes per token, and BOS and EOS of every document"]
        if settings.quality is not None:
            weighted = foresee(settings.quality, corpus, splits[_TRAIN])
            splits[_TRAIN] = weighted.split
            notes.append(weighted.note)
        n_bytes = sum(split.bytes for split in splits.values())
        return Plan(
            TokensSpec(vocab_size=tokenizer.vocab_size, splits=splits),
            Estimate(
                seconds=_seconds(n_bytes, load, device),
                peak_memory=_memory(settings, splits, tokenizer.bytes_per_token, device, load.workers),
                flops=Quantity.exact(0.0, "FLOP", "modelled", "no floating-point work"),
            ),
            notes,
        )

    def run(self, settings: TokenizeSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.artifacts.commit import write_bytes_atomic
        from arriero.data.corpus import Corpus
        from arriero.data.encode import choose_encoder, encode_tasks, encoded
        from arriero.data.shard_writer import gather
        from arriero.data.shards import META_FILE, TokensMeta, token_type
        from arriero.tokenization.tokenizer import Tokenizer

        corpus_artifact: Artifact = inputs["corpus"]
        spec: CorpusSpec = open_input(corpus_artifact, CorpusSpec)
        folder = inputs["tokenizer"].path
        tokenizer = Tokenizer.load(folder)
        corpus = Corpus(corpus_artifact.path)
        n_bytes = sum(split.bytes for split in spec.splits.values())
        library = choose_encoder(corpus, tokenizer, n_bytes).library
        picks = _picks(settings, corpus, context.seed)
        tasks = encode_tasks(
            corpus, folder, context.state, settings.shard_tokens, library == "tiktoken", picks
        )
        if _load(settings, spec).workers > 1 or settings.executor.shard is not None:
            _encode_together(tasks, settings, context)
        else:
            _encode_here(tasks, n_bytes, context)
        splits = {
            split: gather(
                context.state, context.folder, split, [encoded(t) for t in tasks if t.payload.split == split]
            )
            for split in corpus.splits
        }
        if not splits[_TRAIN].tokens:
            raise ArrieroError(f"{corpus_artifact.path} has no training text to encode")
        meta = TokensMeta(
            dtype=token_type(tokenizer.vocab_size), vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint,
            bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, splits=splits,
        )  # fmt: skip
        tokenizer.save(context.folder / TOKENIZER_FOLDER)
        write_bytes_atomic(context.folder / META_FILE, (meta.model_dump_json(indent=2) + "\n").encode())
        taken = _account(tasks, context)
        repeated = {_TRAIN: taken.repeated_tokens} if taken else {}
        return Outcome(
            TokensSpec(
                vocab_size=tokenizer.vocab_size,
                splits={
                    name: TokenSplitSpec(
                        documents=s.documents, tokens=s.tokens, bytes=s.bytes, repeated=repeated.get(name, 0)
                    )
                    for name, s in splits.items()
                },
            ),
            {
                "dtype": meta.dtype,
                "tokenizer": tokenizer.fingerprint,
                "encoded_by": library,
                "shards": {name: len(split.shards) for name, split in splits.items()},
                "bytes_per_token": {name: round(_ratio(split), 4) for name, split in splits.items()},
                **({"quality": taken.model_dump(mode="json")} if taken else {}),
            },
        )

    def probe(self) -> dict[str, Rate]:
        from arriero.tokenization.bpe import train_bpe
        from arriero.tokenization.fast import FastEncoder, SlowEncoder, make_encoder
        from arriero.tokenization.sample_text import sample_texts

        texts = sample_texts(2_000_000)
        tokenizer = train_bpe(texts[:500], 4096, "llama3", 2)

        def rate(encoder: FastEncoder | SlowEncoder) -> Rate:
            started = time.perf_counter()
            for start in range(0, len(texts), 256):
                encoder.encode_batch(texts[start : start + 256])
            per_s = sum(map(len, texts)) / (time.perf_counter() - started)
            return Rate(per_s=per_s, spread=0.4, unit="B")

        found = {_RATE: rate(SlowEncoder(tokenizer))}
        fast = make_encoder(tokenizer)
        return found | ({_FAST_RATE: rate(fast)} if fast.library == "tiktoken" else {})


def _seconds(n_bytes: int, load: EncodeLoad, device: DeviceProfile) -> Quantity:
    """By tiktoken where there is enough text to start it; the upper end is that of a tokenizer it cannot stand in for.

    tiktoken's rate is that of one process on one core, and the `tokenizers` library's that of one process on all of
    them: its workers share what it has without them.
    """
    from arriero.data.encode import TIKTOKEN_WORTH_BYTES

    slow, fast = device.rate(_RATE), device.rate(_FAST_RATE)
    if slow is None:
        return Quantity.unknown("s", f"no rate {_RATE} in the device profile")
    spread = max(slow.spread, 0.35)
    start = _START_SECONDS + (_POOL_SECONDS if load.workers > 1 else 0.0)
    one_core = n_bytes * load.longest_share
    on_one_of_all = n_bytes if load.workers == 1 else one_core * load.cores
    seconds = Quantity.band(start + on_one_of_all / slow.per_s, spread, "s", "modelled", "measured rate")
    if fast is None or n_bytes < TIKTOKEN_WORTH_BYTES:
        return seconds
    by_tiktoken = start + _PROOF_SECONDS + one_core / fast.per_s
    quick = Quantity.band(by_tiktoken, spread, "s", "modelled", "measured rate of tiktoken")
    return quick.model_copy(update={"high": max(quick.high or 0.0, seconds.high or 0.0)})


def _memory(
    settings: TokenizeSettings,
    splits: dict[str, TokenSplitSpec],
    bytes_per_token: float,
    device: DeviceProfile,
    workers: int,
) -> Quantity:
    """The process, and of each that encodes a batch in work and the shard that is being filled."""
    from arriero.data.shard_writer import BATCH_BYTES

    shard = 8 * min(settings.shard_tokens, max(split.tokens for split in splits.values()))
    batch = _BYTES_PER_TOKEN_IN_WORK * BATCH_BYTES / bytes_per_token
    total = device.process_bytes + workers * (shard + batch) + (workers - 1) * _WORKER_BYTES
    return Quantity.band(total, 0.3, "B", "modelled", f"process, {workers} x shard and batch")


def _load(settings: TokenizeSettings, corpus: CorpusSpec) -> EncodeLoad:
    """Who encodes how much of a corpus: the same when it is planned and when it is run."""
    from arriero.data.encode_load import encode_load

    passes = {_TRAIN: settings.quality.passes} if settings.quality else {}
    return encode_load(settings.executor, corpus.splits, passes)


def _picks(settings: TokenizeSettings, corpus: Corpus, seed: int) -> list[PickJob] | None:
    """The passes over the training documents; None: one that takes all of them."""
    from arriero.data.quality.pick import pick_jobs

    if settings.quality is None:
        return None
    return pick_jobs(settings.quality, seed, corpus.folder, corpus.files[_TRAIN])


def _account(tasks: list[Task], context: Context) -> QualityAccount | None:
    """Write and tell what was taken how often; None where all documents are taken once."""
    from arriero.artifacts.commit import write_bytes_atomic
    from arriero.data.encode import quality_accounts
    from arriero.data.quality.account import QUALITY_FILE, together

    accounts = quality_accounts(tasks)
    if not accounts:
        return None
    taken = together(accounts)
    write_bytes_atomic(context.folder / QUALITY_FILE, (taken.model_dump_json(indent=2) + "\n").encode())
    for line in taken.lines():
        context.say(line)
    return taken


def _encode_together(tasks: list[Task], settings: TokenizeSettings, context: Context) -> None:
    """On the executor that the settings ask for."""
    from arriero.data.encode import encode_file, is_encoded
    from arriero.data.execute.settings import make_executor

    def tick(progress: Progress) -> None:
        context.progress(
            progress.bytes, progress.of_bytes, "B", tasks=f"{progress.tasks}/{progress.of_tasks}"
        )

    executor = make_executor(settings.executor)
    executor.run(encode_file, tasks, done=is_encoded, tick=tick, stop=context.stop_requested)


def _encode_here(tasks: list[Task], total: int, context: Context) -> None:
    """One file after the other in this process, with the progress and the stop between batches."""
    from arriero.data.encode import encode, encoded, is_encoded

    done = 0
    for task in tasks:

        def tick(n_bytes: int, before: int = done, split: str = task.payload.split) -> None:
            if context.stop_requested():
                raise Interrupted(f"stopped in split {split}; the whole shards are kept")
            context.progress(before + n_bytes, max(total, before + n_bytes), "B", split=split)

        done += (encoded(task) if is_encoded(task) else encode(task.payload, tick)).bytes


def _ratio(split: SplitMeta) -> float:
    """Bytes that a token stands for, BOS and EOS not counted."""
    return split.bytes / max(split.tokens - 2 * split.documents, 1)


def tokenizer_folder(tokens: Path) -> Path:
    """Where a tokens artifact keeps its tokenizer."""
    return tokens / TOKENIZER_FOLDER
