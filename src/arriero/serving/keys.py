"""API keys: made, given, or read from a file."""

from __future__ import annotations

import secrets
from pathlib import Path

from arriero.errors import ArrieroError


def make_key() -> str:
    """A fresh key of 192 random bits."""
    return secrets.token_urlsafe(24)


def check_key(key: str) -> str:
    """The key, if it can be sent in a header.

    Raises:
        ArrieroError: it cannot.
    """
    if not key or not all("!" <= c <= "~" for c in key):
        raise ArrieroError("the API key should be printable ASCII without spaces, and not empty")
    return key


def read_keys(file: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and lines that begin with # are passed over.

    Raises:
        ArrieroError: it cannot be read, holds none, or one that cannot be sent in a header.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArrieroError(f"the keys in {file} cannot be read: {error}") from None
    keys = []
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        try:
            keys.append(check_key(key))
        except ArrieroError as error:
            raise ArrieroError(f"{file} line {number}: {error}") from None
    if not keys:
        raise ArrieroError(f"{file} holds no API key; write one a line")
    return tuple(keys)
