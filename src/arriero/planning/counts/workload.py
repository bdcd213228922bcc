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
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

from arriero.cost.workload import Dimensions, Dtype, Recompute, Workload
from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.models.encoder_config import EncoderConfig
from arriero.models.feedforward_config import FeedForwardConfig
from arriero.models.recurrent_config import RecurrentConfig
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.planning.counts.blocks import blocks_of, head_of
from arriero.planning.counts.depths import depths_of
from arriero.planning.counts.held import head_gradient, held_by, unpacking
from arriero.planning.counts.objectives import resolve_objective
from arriero.planning.counts.passes import Passes
from arriero.planning.counts.subject import Held, Subject
from arriero.planning.memory.profiles import MemoryProfiles

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
    depths = depths_of(config)
    blocks = {mode: blocks_of(depths, subject, mode) for mode in modes}
    plain, one = blocks["none"], blocks["none"].one.each
    (head, head_peak), rest = head_of(depths.base, subject), plain.rest
    beside = rest.plus(head)
    gradient, held = head_gradient(subject, depths.base), held_by(subject, depths)
    return Workload(
        name=name, context=subject.context, scored=subject.scored, dimensions=_dimensions(config, depths.layers),
        parameters=held.parameters, dtype=subject.dtype,
        forward_block=one.forward, forward_rest=beside.each.forward,
        backward_block=one.backward, backward_rest=beside.each.backward,
        recomputed_block={mode: found.one.each.backward - one.backward for mode, found in blocks.items()},
        saved_block={mode: found.one.each.saved for mode, found in blocks.items()}, saved_rest=beside.each.saved,
        head_peak=head_peak, kv_token=_kv_token(config, subject),
        work_peak=plain.work.each.backward_peak, work_once=plain.work.once.backward_peak,
        gradient_bytes=held.gradient, state_bytes=held.state,
        once_block=plain.one.once.both + 2.0 * unpacking(subject, depths), once_rest=beside.once.both,
        saved_once_block={mode: found.one.once.saved for mode, found in blocks.items()},
        saved_once_rest=beside.once.saved - gradient, head_gradient=gradient,
        **_attention(config, subject.context, one * depths.layers + beside.each),
        uncounted=tuple(sorted(head.each.uncounted | one.uncounted | rest.each.uncounted)),
        memory=MemoryProfiles(
            config, subject, held.parameters.weight_bytes, _modes(config, subject.dtype)
        ),
    )  # fmt: skip


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


def _attention(config: ModelConfig, context: int, found: Passes) -> dict[str, float]:
    """``square`` and ``needed`` of a workload."""
    counted = found.forward.attention
    if not counted:
        return {"square": 1.0, "needed": 1.0}
    needed = counted
    if isinstance(config, DecoderConfig):  # a token sees half the square, or less of it
        window = min(config.sliding_window or context, context)
        needed = found.square * (window * context - window**2 / 2) / context**2
    return {"square": found.square / counted, "needed": needed / counted}


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
