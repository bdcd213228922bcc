"""The few parts of the Protocol Buffers wire format that a SentencePiece model needs."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message in order: integers as they are, everything else as its bytes.

    Raises:
        ValueError: the bytes are no message.
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"field number 0 at byte {position}")
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if position + size > len(data):
            raise ValueError(f"cut short at byte {position}")
        yield number, data[position : position + size]
        position += size


def float_of(value: int | bytes) -> float:
    """A field of type float."""
    if not isinstance(value, bytes) or len(value) != 4:
        raise ValueError("not a float")
    return float(struct.unpack("<f", value)[0])


def signed(value: int | bytes) -> int:
    """A field of type int32."""
    if not isinstance(value, int):
        raise ValueError("not an integer")
    return value - 2**64 if value >= 2**63 else value


def text_of(value: int | bytes) -> str:
    """A field of type string."""
    return bytes_of(value).decode("utf-8")


def bytes_of(value: int | bytes) -> bytes:
    """A field of type bytes, or a message inside a message."""
    if not isinstance(value, bytes):
        raise ValueError("not bytes")
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError(f"no number at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
