"""The stage ``ngram``: an n-gram model counted from token shards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ByteSize, Field, field_validator, model_validator

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import (
    Context,
    Input,
    Inputs,
    ModelSpec,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    TokensSpec,
    open_input,
    register,
)

if TYPE_CHECKING:
    import numpy as np

    from arriero.data.shards import TokenShards

RATE = "ngram.tokens_per_s"
ARPA_FILE = "model.arpa.gz"
_PROBE_TOKENS, _PROBE_VOCABULARY, _PROBE_ORDER = 400_000, 4096, 5
_ESTIMATING = ("discounts of", "sum", "estimate", "back-off of")
_ENTROPY_BYTES = 150
"""Memory that entropy pruning takes for each n-gram of the model: its tables, their words, the chain of orders."""
_LEVEL, _FEW_TOKENS_LEVEL, _PER_LOG_BITS, _PER_LOG2_TOKENS = -9.1, -10.6, 4.6, 0.35
_FEW_TOKENS = 256
"""A vocabulary of characters: more of what its bits could say is never said."""
_EXPECTED = "n-grams are expected from the tokens' number alone; a text that repeats itself has fewer, and cut-offs leave fewer"


class NgramSettings(StageSettings):
    """Settings of the stage ``ngram``."""

    order: int = Field(default=5, ge=1, le=7, description="longest n-gram: order - 1 tokens of context")
    smoothing: str = Field(
        default="modified_kneser_ney",
        description="modified_kneser_ney, kneser_ney, absolute, witten_bell, jelinek_mercer, additive or mle",
    )
    smoothing_weight: float | None = Field(
        default=None,
        gt=0,
        description="share of the lower order (jelinek_mercer) or added count (additive); by default the method's own",
    )
    prune: list[int] = Field(
        default=[],
        description="leave out n-grams that occur at most so often, by order from 1 on, the last repeated: 0, 0, 1",
    )
    prune_entropy: float | None = Field(
        default=None,
        gt=0,
        description="then leave out n-grams that lower the perplexity by less than this share, e.g. 1e-7",
    )
    max_memory: ByteSize = Field(
        default=ByteSize(512_000_000),
        ge=1_000_000,
        description="memory for counting beyond the process itself, e.g. 512MB; more text is sorted on disk",
    )
    max_tokens: int = Field(
        default=0, ge=0, description="most training tokens counted, in whole documents; 0 = all"
    )
    arpa: bool = Field(default=False, description=f"write {ARPA_FILE} too, for KenLM and others")

    @field_validator("prune")
    @classmethod
    def _cut_offs(cls, prune: list[int]) -> list[int]:
        if any(cut < 0 for cut in prune):
            raise ValueError("cut-offs should not be below 0")
        return prune

    @model_validator(mode="after")
    def _fit_each_other(self) -> NgramSettings:
        from arriero.models.ngram_estimate import pruning_of
        from arriero.models.ngram_smoothing import get_smoothing

        try:
            pruning_of(self.prune, self.order)
            get_smoothing(self.smoothing, self.smoothing_weight)
        except ArrieroError as error:
            raise ValueError(str(error)) from None
        return self

    def config(self, vocab_size: int) -> dict[str, Any]:
        """The model's configuration as its spec has it. It has no context_length: a text of any length can be scored."""
        return {
            "family": "ngram", "vocab_size": vocab_size, "order": self.order, "smoothing": self.smoothing,
        }  # fmt: skip


@register
class Ngram(Stage[NgramSettings]):
    """Count the n-grams of the training split and estimate a back-off model of them (modified Kneser-Ney).

    Counting sorts the text in pieces that fit the memory and merges them, so a corpus may be larger than memory.
    A run that was killed goes on after its last finished step; the same tokens give the same bytes.
    """

    kind = "ngram"
    version = 1
    makes = "model"
    inputs = {"tokens": Input("tokens", "token shards, with their tokenizer")}
    help = "count an n-gram language model"
    Settings = NgramSettings

    def plan(self, settings: NgramSettings, specs: Specs, device: DeviceProfile) -> Plan:
        tokens: TokensSpec = specs["tokens"]
        counted = min(tokens.splits["train"].tokens, settings.max_tokens or tokens.splits["train"].tokens)
        sizes = expected_ngrams(settings.order, counted, tokens.vocab_size)
        spec = _spec(settings, tokens.vocab_size, sizes)
        estimate = Estimate(
            seconds=_seconds(settings, counted, device),
            peak_memory=_memory(settings, counted, sum(sizes), device),
            flops=Quantity.exact(0.0, "FLOP", "modelled", "sorting; the few divisions are not counted"),
        )
        note = f"about {spec.n_parameters:,} n-grams of orders 1 to {settings.order} from {counted:,} tokens"
        return Plan(spec, estimate, [note, _EXPECTED])

    def run(self, settings: NgramSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.data.shards import TokenShards
        from arriero.data.tokenize import tokenizer_folder
        from arriero.models.ngram import NGram, fit_columns
        from arriero.models.ngram_columns import Workspace
        from arriero.models.ngram_tables import TABLES
        from arriero.tokenization.tokenizer import Tokenizer

        artifact: Artifact = inputs["tokens"]
        vocab_size = open_input(artifact, TokensSpec).vocab_size
        tokenizer = Tokenizer.load(tokenizer_folder(artifact.path))
        shards = TokenShards.open(artifact.path, "train")
        last = _last_document(shards, settings.max_tokens)
        total = int(shards.documents_starts[last])
        work = Workspace(
            context.state / "counts", int(settings.max_memory), _reporter(settings, total, context)
        )
        fitted = fit_columns(
            (shards.document(i) for i in range(last)), settings.order, vocab_size, settings.smoothing,
            settings.smoothing_weight, settings.prune, work,
        )  # fmt: skip
        counted = fitted.parameter_counts()
        model: NGram | None = None
        if settings.prune_entropy or settings.arpa:  # these need the model in memory
            model = NGram(fitted.tables())
        if settings.prune_entropy and model is not None:
            model = model.pruned(settings.prune_entropy, tokenizer.bos_id, tokenizer.eos_id)
        (model or fitted).save(context.folder)
        tokenizer.save(context.folder)
        if settings.arpa and model is not None:
            pieces = pieces_of(tokenizer)
            model.write_arpa(context.folder / ARPA_FILE, pieces, tokenizer.bos_id, tokenizer.eos_id)
        kept = (model or fitted).parameter_counts()
        context.progress(2 * settings.order, 2 * settings.order, "passes", step="written")
        spec = _spec(settings, vocab_size, list(kept.values()), (context.folder / TABLES).stat().st_size)
        return Outcome(
            spec, {"ngrams": kept, "ngrams_before_pruning": counted, "tokens": total, **fitted.about}
        )

    def probe(self) -> dict[str, Rate]:
        return {RATE: Rate(per_s=measure_counting(), spread=0.4, unit="tokens")}


def pieces_of(tokenizer: Any) -> list[str]:
    """A distinct text for every token: its bytes where they are UTF-8, else its number in bytes' notation."""
    found: list[str] = []
    for token in range(tokenizer.vocab_size):
        raw = tokenizer.token_bytes(token)
        try:
            found.append(raw.decode())
        except UnicodeDecodeError:
            found.append("".join(f"<0x{byte:02X}>" for byte in raw))
    return found


# ---------------------------------------------------------------- the run


def _last_document(shards: TokenShards, most: int) -> int:
    """How many documents from the first hold ``most`` tokens together (0 = all); at least one.

    Raises:
        ArrieroError: there is no training text.
    """
    import numpy as np

    if not shards.n_tokens:
        raise ArrieroError("the tokens have no training text to count")
    if not most:
        return shards.n_documents
    return max(1, int(np.searchsorted(shards.documents_starts, most, "right")) - 1)


def _reporter(settings: NgramSettings, total: int, context: Context) -> Callable[[str, int], None]:
    """Progress in passes over the text: one an order for counting, and one for estimating."""
    far = 0.0

    def report(step: str, done: int) -> None:
        nonlocal far
        if context.stop_requested():
            raise Interrupted(f"stopped at '{step}'; finished steps are kept, and the same command goes on")
        what, _, grams = step.rpartition(" ")
        order = int(grams.removesuffix("-grams")) if grams.endswith("-grams") else 1
        passes = order - 1 + (min(1.0, done / max(total, 1)) if what == "sort" else 0.0)
        if what in _ESTIMATING:
            passes = settings.order + order - 1
        far = max(far, passes)
        context.progress(far, 2 * settings.order, "passes", step=step)

    return report


# ---------------------------------------------------------------- the plan


def expected_ngrams(order: int, tokens: int, vocab_size: int) -> list[int]:
    """N-grams of each order 1 … ``order`` that a text of so many tokens is expected to hold.

    The share of a text's n-grams that are distinct follows a logistic curve in the logarithms of the n-gram's bits,
    ``n log2 V``, and of the text's length. Fitted to English of 28 thousand to 1.1 million tokens in characters and in
    byte-level BPE of 1,024 and 8,192 ids, for orders 2 to 7: within a quarter where most n-grams are distinct, within a
    factor of two elsewhere.
    """
    sizes = [min(vocab_size, tokens)]
    level = _FEW_TOKENS_LEVEL if vocab_size <= _FEW_TOKENS else _LEVEL
    for n in range(2, order + 1):
        bits = n * math.log2(max(vocab_size, 2))
        logit = level + _PER_LOG_BITS * math.log(bits) - _PER_LOG2_TOKENS * math.log2(max(tokens, 2))
        distinct = tokens / (1 + math.exp(-logit))
        sizes.append(round(min(distinct, float(vocab_size) ** n)))
    return sizes


def _spec(settings: NgramSettings, vocab_size: int, sizes: list[int], size: int | None = None) -> ModelSpec:
    import numpy as np

    from arriero.models.ngram import columns_in_file_order
    from arriero.models.ngram_tables import tables_bytes

    if size is None:
        rows = [vocab_size, *sizes[1:]]
        shapes = {
            name: (
                np.dtype(np.int64 if name.startswith("keys") else np.float64),
                rows[int(name.split(".")[1]) - 1],
            )
            for name in columns_in_file_order(settings.order)
        }
        size = tables_bytes(shapes)
    return ModelSpec(
        config=settings.config(vocab_size), n_parameters=sum(sizes), weight_bytes=size, format="float64"
    )


def _seconds(settings: NgramSettings, tokens: int, device: DeviceProfile) -> Quantity:
    rate = device.rate(RATE)
    if rate is None:
        return Quantity.unknown("s", f"no rate {RATE} in the device profile")
    value = tokens * settings.order / _PROBE_ORDER / rate.per_s
    spread = max(rate.spread, 0.4) * (2 if settings.prune_entropy or settings.arpa else 1)
    return Quantity.band(0.2 + value, spread, "s", "modelled", "measured rate of counting at order 5")


def _memory(settings: NgramSettings, tokens: int, ngrams: int, device: DeviceProfile) -> Quantity:
    from arriero.models.ngram_columns import BYTES_PER_RECORD

    work = min(int(settings.max_memory), BYTES_PER_RECORD * tokens)
    if settings.prune_entropy or settings.arpa:  # these hold the model
        work = max(work, _ENTROPY_BYTES * ngrams)
    return Quantity.band(
        device.process_bytes + work, 0.35, "B", "modelled", "process, and the pieces in work"
    )


# ---------------------------------------------------------------- the probe


def _made_up_text() -> Iterator[np.ndarray]:
    """Documents with a language's frequencies and repeats."""
    import numpy as np

    rng = np.random.default_rng(0)
    frequencies = 1.0 / (np.arange(_PROBE_VOCABULARY) + 10.0)  # Zipf's law as Mandelbrot put it
    ids = rng.choice(_PROBE_VOCABULARY, _PROBE_TOKENS, p=frequencies / frequencies.sum())
    phrases = ids.reshape(-1, 4)
    phrases[1::2] = phrases[rng.integers(0, len(phrases), len(phrases[1::2]))]
    yield from np.split(ids, range(500, _PROBE_TOKENS, 500))


def measure_counting() -> float:
    """Tokens per second of a fit of order 5 that is written to a folder."""
    from tempfile import TemporaryDirectory

    from arriero.models.ngram import fit_columns
    from arriero.models.ngram_columns import Workspace

    documents = list(_made_up_text())
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        fitted = fit_columns(
            documents,
            _PROBE_ORDER,
            _PROBE_VOCABULARY,
            "modified_kneser_ney",
            None,
            [],
            Workspace(Path(folder) / "w"),
        )
        fitted.save(Path(folder) / "model")
        return _PROBE_TOKENS / (time.perf_counter() - started)
