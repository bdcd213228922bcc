"""GPT-2's byte-level alphabet: every byte is written as one printable character."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1)
def byte_of_character() -> dict[str, int]:
    """Printable character -> byte (Radford et al. 2019, `bytes_to_unicode` of the released encoder)."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in kept}
    rest = [byte for byte in range(256) if byte not in set(kept)]
    table.update({chr(256 + position): byte for position, byte in enumerate(rest)})
    return table


def token_to_bytes(piece: str) -> bytes:
    """Bytes of a vocabulary entry in the byte-level alphabet (an entry outside of it: its UTF-8)."""
    table = byte_of_character()
    try:
        return bytes(table[character] for character in piece)
    except KeyError:
        return piece.encode()
