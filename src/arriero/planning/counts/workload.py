"""A workload from a model's configuration: the real model and its real objective, traced on fake tensors.

Nothing here knows a formula of a family. A shallow model is traced with one block and with two, with two sequences
and with three; what a block, a sequence and all the rest take follows from the differences (``depths``), exactly, because
every count is linear in both.

Conventions that hold in a :class:`~arriero.cost.workload.Workload`:

* A multiply-add counts two. Looking a row up in a table counts nothing.
* Causal attention counts half its square, ``2 T^2 head_dim`` a head forward; its backward pass 2.5 times as much, because
  flash attention works the scores out again (Dao et al., arXiv 2205.14135). Under a mask (windows, ALiBi, packed short
  rows in bf16) and where the scores are worked out whole, the full square counts, for it is worked out.
* Products with vectors, as in the norms' backward pass, count among the products, and their bytes among the
  element-wise ones.
* ``head`` is every product after the last vectors: the table of the vocabulary, BERT's transform, poolers. Products before
  and between the blocks (ALBERT's projection of the embedding) are ``products`` of the rest.
* Backward passes are what autograd does: no gradient of frozen weights, none below the first adapter.
* Of models with blocks of several kinds (encoder and decoder, windows of several widths) ``..._block`` is the mean.

What was traced once is kept on disk (``traces``), and what a mode of recomputation changes is traced when it is asked for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

from arriero.cost.workload import Dimensions, Dtype, Recompute, Work, Workload
from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.models.encoder_config import EncoderConfig
from arriero.models.feedforward_config import FeedForwardConfig
from arriero.models.recurrent_config import RecurrentConfig
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.planning.counts.as_data import (
    ByMode,
    counts_data,
    counts_from,
    work_data,
)
from arriero.planning.counts.depths import depths_of
from arriero.planning.counts.objective_names import resolve_objective
from arriero.planning.counts.subject import Held, Subject
from arriero.planning.counts.traces import remembered
from arriero.planning.memory.kept import KeptProfiles

OPTIMIZERS = ("adamw", "adafactor", "muon")
MODES: tuple[Recompute, ...] = ("none", "selective", "full")


def workload_of(
    config: ModelConfig,
    *,
    context: int,
    objective: str = "auto",
    dtype: Dtype = "fp32",
    scored: float = 1.0,
    lora_rank: int = 0,
    lora_targets: str = "all-linear",
    weights: Held = "fp32",
    optimizer: str = "adamw",
    source: int | None = None,
    document_mask: bool = True,
    modes: tuple[Recompute, ...] = MODES,
    name: str = "",
) -> Workload:
    """What one sequence of ``context`` tokens takes.

    Args:
        context: tokens of a sequence; source and target together for encoder-decoders.
        objective: causal, sft, dpo (one row of a pair), scalar (reward models and critics), masked, next_sentence,
            sentence_order, regression, seq2seq; auto: the family's own.
        dtype: of the products; fp8 is traced as bf16.
        scored: share of the tokens (of the target's, for pairs) that go through the head.
        lora_rank: of the adapters on the layers ``lora_targets``; 0: all weights are trained.
        weights: how the weights are held. int8 and int4 only with adapters: the blocks' products then unpack their
            weights in each pass, bytes and no FLOPs (QLoRA, Dettmers et al., arXiv 2305.14314).
        optimizer: adamw, adafactor or muon.
        source: of these tokens are the source's; by default half.
        document_mask: packed windows keep documents apart (objective causal).
        modes: of recomputation that are traced, of those that the family has; fewer take less time.

    Raises:
        ArrieroError: the context is too long, or settings that do not fit one another or the family.
    """
    for what, given, known in (
        ("dtype", dtype, get_args(Dtype)), ("weights", weights, get_args(Held)), ("optimizer", optimizer, OPTIMIZERS)
    ):  # fmt: skip
        if given not in known:
            raise ArrieroError(f"{what} is one of {', '.join(known)}, not '{given}'")
    config, objective = resolve_objective(config, objective)
    _check(config, context, scored, lora_rank, weights, source)
    tokens = context - (_source(context, source) if objective == "seq2seq" else 0)
    subject = Subject(
        objective, context, max(1, round(scored * tokens)), source, dtype, lora_rank, lora_targets, weights,
        optimizer, document_mask,
    )  # fmt: skip
    wanted = tuple(mode for mode in _modes(config, dtype) if mode == "none" or mode in modes)
    return _workload(config, subject, wanted, name or config.family)


def _source(context: int, source: int | None) -> int:
    return context // 2 if source is None else source


def _check(
    config: ModelConfig, context: int, scored: float, rank: int, weights: str, source: int | None
) -> None:
    longest = getattr(config, "longest", None) or getattr(config, "context_length", None)
    if isinstance(config, Seq2SeqConfig):
        longest = 2 * config.context_length if config.bounded else None
        if not 0 < _source(context, source) < context:
            raise ArrieroError(
                f"a pair of {context} tokens needs a source and a target of a token or more each"
            )
    if context < 1 or (longest is not None and context > longest):
        raise ArrieroError(f"context {context} is not within 1 and the model's {longest} tokens")
    if not 0 < scored <= 1:
        raise ArrieroError(
            f"scored is the share of tokens whose loss is taken, above 0 and at most 1, not {scored}"
        )
    if rank and not isinstance(config, DecoderConfig):
        raise ArrieroError(f"adapters go on decoders; a model of family '{config.family}' is trained whole")
    if weights in ("int8", "int4") and not rank:
        raise ArrieroError(
            f"weights held in {weights} cannot be trained; give lora_rank too, or hold them in fp32"
        )


@lru_cache(maxsize=256)
def _workload(config: ModelConfig, subject: Subject, modes: tuple[Recompute, ...], name: str) -> Workload:
    found = counts_from(remembered(config, subject, "counts", lambda: _counts(config, subject)))
    by_mode = ByMode(modes, lambda mode: _of_mode(config, subject, mode))
    return Workload(
        name=name, context=subject.context, scored=subject.scored, dtype=subject.dtype,
        dimensions=_dimensions(config, depths_of(config).layers),
        recomputed_block=ByMode(modes, lambda mode: Work(*by_mode[mode]["again"])),
        saved_block=ByMode(modes, lambda mode: by_mode[mode]["saved"]),
        saved_once_block=ByMode(modes, lambda mode: by_mode[mode]["once"]),
        kv_token=_kv_token(config, subject),
        memory=KeptProfiles(config, subject, found["parameters"].weight_bytes, _modes(config, subject.dtype)),
        **found,
    )  # fmt: skip


def _counts(config: ModelConfig, subject: Subject) -> dict[str, Any]:
    from arriero.planning.counts.counted import counted

    return counts_data(counted(config, subject))


def _of_mode(config: ModelConfig, subject: Subject, mode: Recompute) -> dict[str, Any]:
    def make() -> dict[str, Any]:
        from arriero.planning.counts.counted import counted_mode

        found = counted_mode(config, subject, mode)
        return {**found, "again": work_data(found["again"])}

    data: dict[str, Any] = remembered(config, subject, f"recompute {mode}", make)
    return data


def _modes(config: ModelConfig, dtype: Dtype) -> tuple[Recompute, ...]:
    """Recomputation goes block by block, and small nets have no blocks.

    Blocks that share weights find these cast already when they are worked out again in a lower precision, which
    torch's selective checkpoint takes for another computation, and stops.
    """
    if isinstance(config, (RecurrentConfig, FeedForwardConfig)):
        return ("none",)
    shared = (
        isinstance(config, EncoderConfig)
        and config.n_groups is not None
        and config.n_groups < config.n_layers
    )
    return ("none", "full") if shared and dtype != "fp32" else MODES


def _kv_token(config: ModelConfig, subject: Subject) -> float:
    """Keys and values have the width of the products."""
    count = getattr(config, "kv_bytes_per_token", None)
    return float(count(4 if subject.dtype == "fp32" else 2)) if count else 0.0


def _dimensions(config: Any, layers: int) -> Dimensions:
    """Of an encoder-decoder the decoder's; a model without heads has one as wide as its state."""
    if isinstance(config, Seq2SeqConfig):
        heads = config.decoder_heads
        head_dim = config.head_dim or config.d_model // heads
        return Dimensions(
            config.d_model, layers, heads, heads, head_dim, config.decoder_d_ff, config.vocab_size
        )
    heads = getattr(config, "n_heads", 1)
    return Dimensions(
        config.d_model, layers, heads, getattr(config, "n_kv_heads", heads),
        getattr(config, "head_dim", config.d_model), getattr(config, "d_ff", config.d_model), config.vocab_size,
    )  # fmt: skip
