"""One batch of inputs through an encoder or a decoder: hidden vectors of all tokens, pooled by text.

Texts are laid end to end, so that nothing but a few tokens is padding; models whose tokens meet elsewhere than in the
attention (DeBERTa's convolution, Longformer's windows) get padded rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arriero.inference.encoder_request import EncoderInput
from arriero.inference.packed_attention import PackedAttention
from arriero.models.decoder import Decoder
from arriero.models.encoder import Encoder
from arriero.models.sentence_embedding import pool

REGULAR = 16
"""Rows of a product are filled up to a multiple of this: other numbers are slower (see ``arriero.products``)."""


def packs(model: Encoder | Decoder) -> bool:
    """Whether texts are laid end to end for this model."""
    if isinstance(model, Encoder):
        return model.takes_packed
    return model.config.positions != "relative" and not model.config.top_query


@dataclass(frozen=True)
class Tokens:
    """Vectors of the tokens of a batch.

    Attributes:
        hidden: [N, d] of texts end to end, or [B, T, d] of padded ones.
        lengths: tokens of each text.
    """

    hidden: Tensor
    lengths: tuple[int, ...]

    def pooled(self, pooling: str) -> Tensor:
        """One vector a text: float32 [B, d]; see :func:`arriero.models.sentence_embedding.pool`."""
        hidden = self.hidden.float()
        sizes = torch.tensor(self.lengths, device=hidden.device)
        if hidden.dim() == 3:
            mask = torch.arange(hidden.shape[1], device=hidden.device) < sizes[:, None]
            return pool(hidden, mask, pooling)
        if pooling == "cls":
            return hidden[sizes.cumsum(0) - sizes]
        if pooling == "last":
            return hidden[sizes.cumsum(0) - 1]
        parts = hidden[: sum(self.lengths)].split(self.lengths)
        if pooling == "mean":
            return torch.stack([part.mean(0) for part in parts])
        return torch.stack([pool(part[None], part.new_ones(1, len(part)), pooling)[0] for part in parts])

    def first(self) -> Tensor:
        """Vectors of each text's first token [B, 1, d], all that a head over whole texts looks at."""
        if self.hidden.dim() == 3:
            return self.hidden[:, :1]
        sizes = torch.tensor(self.lengths, device=self.hidden.device)
        return self.hidden[sizes.cumsum(0) - sizes].unsqueeze(1)


@torch.inference_mode()
def run(model: Encoder | Decoder, inputs: Sequence[EncoderInput]) -> Tokens:
    """The body's vectors of every token of ``inputs``, which are best sorted by length."""
    lengths = tuple(len(i.ids) for i in inputs)
    hidden = _packed(model, inputs, lengths) if packs(model) else _padded(model, inputs, lengths)
    return Tokens(hidden, lengths)


def _packed(model: Encoder | Decoder, inputs: Sequence[EncoderInput], lengths: tuple[int, ...]) -> Tensor:
    device = next(model.parameters()).device
    total = sum(lengths)
    fill = -total % REGULAR if total > REGULAR else 0
    filled = (*lengths, fill) if fill else lengths
    ids = torch.tensor([[id for i in inputs for id in i.ids] + [0] * fill], device=device)
    places = [place for length in filled for place in range(length)]
    positions = torch.tensor([places], device=device)
    if isinstance(model, Decoder):
        attention = PackedAttention(filled, True, device)
        return model.hidden(ids, positions=positions, cache=attention)[0]
    if model.config.positions == "skip_padding":
        positions += (model.config.pad_id or 0) + 1
    absent = model.config.positions == "none"
    hidden = model.hidden(
        ids,
        segments=_segments(inputs, fill, device),
        positions=None if absent else positions,
        attention=PackedAttention(filled, False, device),
    )
    return hidden[0]


def _segments(inputs: Sequence[EncoderInput], fill: int, device: torch.device) -> Tensor | None:
    if all(i.segments is None for i in inputs):
        return None
    flat = [segment for i in inputs for segment in (i.segments or (0,) * len(i.ids))]
    return torch.tensor([flat + [0] * fill], device=device)


def _padded(model: Encoder | Decoder, inputs: Sequence[EncoderInput], lengths: tuple[int, ...]) -> Tensor:
    sizes = torch.tensor(lengths)
    mask = torch.arange(int(sizes.max())) < sizes[:, None]
    pad = getattr(model.config, "pad_id", None) or 0
    ids = torch.full(mask.shape, pad, dtype=torch.int64)
    ids[mask] = torch.tensor([id for i in inputs for id in i.ids])
    device = next(model.parameters()).device
    ids, mask = ids.to(device), mask.to(device)
    if isinstance(model, Decoder):
        return model.hidden(ids)  # no token sees the padding behind it
    segments = None
    if any(i.segments for i in inputs):
        segments = torch.zeros_like(ids)
        segments[mask] = torch.tensor(
            [s for i in inputs for s in (i.segments or (0,) * len(i.ids))], device=device
        )
    windows = model.config.attention == "window"
    return model.hidden(
        ids,
        attention_mask=mask,
        segments=segments,
        global_attention=model.task_globals(ids) if windows else None,
    )


def cut(vector: np.ndarray, dimensions: int | None, normalise: bool) -> np.ndarray:
    """The first ``dimensions`` numbers of a vector [d], then of length 1 if that is wanted (zeros stay zeros)."""
    kept = vector[:dimensions].copy()
    if normalise:
        kept /= max(float(np.linalg.norm(kept)), 1e-12)
    return kept
