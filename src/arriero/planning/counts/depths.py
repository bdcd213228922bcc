"""A deep model by shallow ones: what one more block adds, and what is there beside the blocks.

Whatever is counted (FLOPs, bytes, parameters) is ``rest + sum over kinds of block (blocks of the kind * what one adds)``,
because all blocks of a kind are alike. So two models of a block or two tell it for any depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.models.encoder_config import EncoderConfig
from arriero.models.recurrent_config import RecurrentConfig
from arriero.models.seq2seq_config import Seq2SeqConfig


@dataclass(frozen=True)
class Kind:
    """Blocks that are all alike.

    Attributes:
        more: the shallow model with one more of them.
        layers: how often one is applied in the whole model; ``shallow`` in the shallow one.
        copies: sets of weights in the whole model, fewer where blocks share them (ALBERT).
    """

    more: ModelConfig
    layers: int
    shallow: int
    copies: int


@dataclass(frozen=True)
class Depths:
    """A shallow model, and the kinds of blocks that make the whole of it."""

    base: ModelConfig
    kinds: tuple[Kind, ...]

    @property
    def layers(self) -> int:
        """Blocks of the whole model; 1 for a model that has none."""
        return sum(kind.layers for kind in self.kinds) or 1

    def whole(self, measure: Callable[[ModelConfig], float]) -> tuple[float, float]:
        """(in all blocks, in the rest) of what goes by sets of weights, as parameters do."""
        base = measure(self.base)
        more = [measure(kind.more) - base for kind in self.kinds]
        rest = base - sum(
            one * min(kind.shallow, kind.copies) for one, kind in zip(more, self.kinds, strict=True)
        )
        return sum(one * kind.copies for one, kind in zip(more, self.kinds, strict=True)), rest


def depths_of(config: ModelConfig) -> Depths:
    """How a model's blocks are told apart."""
    if isinstance(config, DecoderConfig):
        return _even(config, 2 if config.top_query else 1)
    if isinstance(config, RecurrentConfig):  # the first layer may have other inputs
        return _even(config, 2)
    if isinstance(config, Seq2SeqConfig):
        return _two_sides(config)
    if isinstance(config, EncoderConfig):
        return _windows(config) if config.windows is not None else _encoder(config)
    return Depths(config, ())


def _even(config: ModelConfig, shallow: int) -> Depths:
    layers: int = config.n_layers  # type: ignore[attr-defined]
    return Depths(
        config.model_copy(update={"n_layers": shallow}),
        (Kind(config.model_copy(update={"n_layers": shallow + 1}), layers, shallow, layers),),
    )


def _two_sides(config: Seq2SeqConfig) -> Depths:
    def of(encoder: int, decoder: int) -> Seq2SeqConfig:
        return config.model_copy(update={"encoder_layers": encoder, "decoder_layers": decoder})

    sides = (config.encoder_layers, of(2, 1)), (config.decoder_layers, of(1, 2))
    return Depths(of(1, 1), tuple(Kind(more, layers, 1, layers) for layers, more in sides))


def _encoder(config: EncoderConfig) -> Depths:
    groups = config.n_groups
    # the first block's input is no other block's output, which a convolution, a decoder and memory all notice
    like = config.conv_kernel or config.has_mask_decoder or (groups is None and config.n_layers > 1)
    shallow = 2 if like else 1

    def of(layers: int) -> EncoderConfig:
        return config.model_copy(
            update={"n_layers": layers, "n_groups": None if groups is None else min(groups, layers)}
        )

    copies = config.n_layers if groups is None else groups
    return Depths(of(shallow), (Kind(of(shallow + 1), config.n_layers, shallow, copies),))


def _windows(config: EncoderConfig) -> Depths:
    """A kind for each width of window (Longformer)."""
    assert config.windows is not None
    widths = sorted(set(config.windows))

    def of(*windows: int) -> EncoderConfig:
        return config.model_copy(update={"n_layers": len(windows), "windows": windows})

    first = widths[0]
    kinds = (
        Kind(of(first, width), config.windows.count(width), int(width == first), config.windows.count(width))
        for width in widths
    )
    return Depths(of(first), tuple(kinds))
