"""The `tokenizer.bin` of llama2.c: a SentencePiece BPE vocabulary as scores and strings.

int32 longest piece; for every id: float32 score, int32 size, bytes. Little-endian. Spaces stand as themselves.
"""

from __future__ import annotations

import re
import struct

from arriero.errors import ArrieroError
from arriero.tokenization.pieces import SPACE
from arriero.tokenization.sentencepiece_model import BPE, PieceType, SentencePieces

_SPECIAL = ("<unk>", "<s>", "</s>")


def parse_bin(data: bytes) -> SentencePieces:
    """Read a llama2.c tokenizer.

    Raises:
        ArrieroError: it is not one, or damaged.
    """
    model = SentencePieces(model_type=BPE, byte_fallback=True, trim_spaces=False)
    try:
        (longest,) = struct.unpack_from("<i", data, 0)
        position = 4
        while position < len(data):
            score, size = struct.unpack_from("<fi", data, position)
            position += 8
            if not 0 <= size <= longest or position + size > len(data):
                raise ValueError(f"a piece of {size} bytes at byte {position}")
            text = data[position : position + size].decode("utf-8")
            model.pieces.append(_piece(len(model.pieces), text, score))
            position += size
    except (struct.error, ValueError) as error:
        raise ArrieroError(f"it is no llama2.c tokenizer: {error}") from None
    if len(model.pieces) < 3 + 256:
        raise ArrieroError("it is no llama2.c tokenizer: it has fewer pieces than bytes")
    return model


def _piece(id: int, text: str, score: float) -> tuple[str, float, int]:
    if id < len(_SPECIAL):
        return _SPECIAL[id], 0.0, PieceType.CONTROL if id else PieceType.UNKNOWN
    if re.fullmatch("<0x[0-9A-F]{2}>", text):
        return text, score, PieceType.BYTE
    return text.replace(" ", SPACE), score, PieceType.NORMAL
