"""Rows that hold several documents: where they begin."""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

Piece = tuple[int, int, Tensor | None]
"""(first token, token after the last, bool [B]: rows in which a document begins at the first token)."""


def document_pieces(segments: Tensor | None, length: int) -> list[Piece]:
    """Cut ``length`` tokens wherever a document begins in some row, so that none begins inside a piece.

    Args:
        segments: int64 [B, T], number of the document of each token; None: one document a row. Fake and meta tensors
            have no numbers to look at: then there is one piece, which takes as much arithmetic as several.
    """
    if segments is None or isinstance(segments, FakeTensor) or segments.is_meta or length < 2:
        return [(0, length, None)]
    begins = segments[:, 1:] != segments[:, :-1]
    cuts = [int(t) + 1 for t in begins.any(dim=0).nonzero().flatten()]
    return [
        (start, stop, begins[:, start - 1] if start else None)
        for start, stop in zip([0, *cuts], [*cuts, length], strict=True)
    ]
