"""DeBERTa's enhanced mask decoder: absolute positions come in last, before the softmax (arXiv 2006.03654, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.block import Block
from arriero.models.layers.disentangled import RelativeContext
from arriero.models.layers.embedding import Embedding


class EnhancedMaskDecoder(nn.Module):
    """The last block, applied several times: it asks with positions added, and reads the layer before the last.

    As in the authors' code, whose published figures need it; transformers leaves it out.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.steps = config.mask_decoder_steps
        self.positions = Embedding(config.context_length, config.d_model)

    def forward(
        self, x: Tensor, block: Block, relative: RelativeContext | None, mask: Tensor | None
    ) -> Tensor:
        """Vectors [B, T, d] of the layer before the last -> those that the head reads, [B, T, d].

        Raises:
            ArrieroError: more tokens than the table has rows.
        """
        rows = self.positions.weight
        if x.shape[1] > len(rows):
            raise ArrieroError(
                f"{x.shape[1]} tokens are more than the {len(rows)} of the mask decoder's positions"
            )
        asked = x + rows[: x.shape[1]]
        for _ in range(self.steps):
            asked = block(asked, relative, mask, x)
        return asked
