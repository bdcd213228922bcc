"""Large lists of domains, addresses and ids as sorted 64-bit hashes in a memory map, shared by all workers.

Two of n entries fall together, or a stranger hits the list, with a chance of n / 2^64 each: for five million entries
3e-13 an address.
"""

from __future__ import annotations

import hashlib
import io
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import write_bytes_atomic
from arriero.data.files import iter_lines
from arriero.errors import ArrieroError

Hashes = NDArray[np.uint64]
_PLAIN_HOST = re.compile(r"[a-z0-9._-]+")
_NEAR = 2048
"""Entries on both sides of where a hash should be: about twice the deviation of a list of five million."""
_MOST_PARTS = 32
"""Labels of a host, and segments of a path, that are looked at."""


def hash_of(key: str) -> int:
    """The key's 64-bit hash: BLAKE2b with a digest of 8 bytes, little-endian."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest(), "little")


class HashList:
    """A set of keys by their hashes."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._view: memoryview = np.ascontiguousarray(hashes, np.uint64).data

    @classmethod
    def of(cls, keys: Iterable[str]) -> HashList:
        """In memory."""
        return cls(np.unique(np.fromiter((hash_of(key) for key in keys), np.uint64)))

    @classmethod
    def read(cls, path: Path, entry_key: Callable[[str], str | None]) -> HashList:
        """A ``.npy`` as a memory map, or a text file of entries (``entry_key`` gives an entry's key, None: no entry).

        Raises:
            ArrieroError: the file cannot be read or is no sorted list of hashes.
        """
        if path.suffix != ".npy":
            return cls.of(filter(None, map(entry_key, entries_of(path))))
        try:
            hashes = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise ArrieroError(f"there is no file {path}") from None
        except (OSError, ValueError) as error:
            raise ArrieroError(f"{path} is no list made by build_url_list: {error}") from None
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise ArrieroError(
                f"{path} is no list made by build_url_list: it holds {hashes.dtype} {list(hashes.shape)}"
            )
        return cls(hashes)

    def save(self, path: Path) -> None:
        """As ``.npy``, whole or not at all."""
        buffer = io.BytesIO()
        np.save(buffer, self._hashes, allow_pickle=False)
        write_bytes_atomic(path, buffer.getvalue())

    def __len__(self) -> int:
        return int(self._hashes.size)

    def first_of(self, keys: Sequence[str]) -> int:
        """Position of the first key that is in the list, or -1."""
        return next((place for place, key in enumerate(keys) if self._has(hash_of(key))), -1)

    def _has(self, hash: int) -> bool:
        """Hashes are spread evenly, so one is looked for where it should be first: a page or two of the file are read
        where a search of all would read one for every step."""
        size = len(self._view)
        guess = hash * size >> 64
        low, high = max(guess - _NEAR, 0), min(guess + _NEAR, size)
        place = bisect_left(self._view, hash, low, high)
        if (place == low and low) or (place == high and high < size):
            place = bisect_left(self._view, hash)
        return place < size and self._view[place] == hash


def entries_of(path: Path) -> Iterator[str]:
    """Lines of a text file (also .gz, .zst) without comments; a hosts file's addresses (0.0.0.0 example.org) go.

    Raises:
        ArrieroError: a line is no UTF-8.
    """
    for line in iter_lines(path):
        try:
            text = line.data.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ArrieroError(f"{path}, line {line.number}: not UTF-8") from None
        if text and not text.startswith("#"):
            yield text.removeprefix("0.0.0.0 ").removeprefix("127.0.0.1 ").split(" #")[0].strip()


# ---------------------------------------------------------------------------------------- addresses


def split_url(url: str) -> tuple[str, str]:
    """Host (lower case, IDNA, without ``www.``, user and port) and the rest (path and query, no fragment).

    An address without a scheme is taken to begin with its host; a broken one has the host "".
    """
    url = url.strip()
    if _PLAIN_HOST.fullmatch(url):
        return url.rstrip(".").removeprefix("www."), ""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host = (parts.hostname or "").rstrip(".").removeprefix("www.")
    except ValueError:
        return "", ""
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            host = host.lower()
    return host, parts.path + (f"?{parts.query}" if parts.query else "")


def domains_of(host: str) -> list[str]:
    """A host and everything it lies below, from the longest: a.b.org, b.org, org."""
    labels = host.split(".")[-_MOST_PARTS:]
    return [".".join(labels[i:]) for i in range(len(labels))] if host else []


def domain_key(entry: str) -> str | None:
    """The key of a list's entry for a domain; ``*.example.org`` is example.org."""
    host, _ = split_url(entry.removeprefix("*.").removeprefix("."))
    return f"d:{host}" if host else None


def url_key(entry: str) -> str | None:
    """The key of an entry that is a domain, or, with a path, one address."""
    host, rest = split_url(entry)
    if not host:
        return None
    return f"u:{host}{rest.rstrip('/')}" if rest.rstrip("/") else domain_key(entry)


def keys_of_url(url: str) -> list[str]:
    """What a page's address is looked up by: itself, its host, and the domains above."""
    host, rest = split_url(url)
    if not host:
        return []
    rest = rest.rstrip("/")
    return [*([f"u:{host}{rest}"] if rest else []), *(f"d:{domain}" for domain in domains_of(host))]


def prefix_key(entry: str) -> str | None:
    """The key of an entry that is the beginning of addresses, cut at whole segments of the path."""
    host, rest = split_url(entry)
    return f"p:{host}{rest.partition('?')[0].rstrip('/')}" if host else None


def prefix_keys_of_url(url: str) -> list[str]:
    """The beginnings of an address, from the longest."""
    host, rest = split_url(url)
    if not host:
        return []
    segments = rest.partition("?")[0].rstrip("/").split("/")[: _MOST_PARTS + 1]
    return [f"p:{host}{'/'.join(segments[:i])}" for i in range(len(segments), 0, -1)]


def build_url_list(files: Sequence[Path], out: Path) -> int:
    """Make the ``.npy`` of a list of domains and addresses from text files; how many different entries it has.

    Raises:
        ArrieroError: a file cannot be read, or none has an entry.
    """
    found = HashList.of(key for file in files for key in map(url_key, entries_of(file)) if key)
    if not len(found):
        raise ArrieroError(f"no domain or address in {', '.join(map(str, files))}")
    found.save(out)
    return len(found)
