"""The process that meets pages: a page in UTF-8 comes, its text goes, or one line that says what was wrong.

The status is 0 for a text and 1 for an error's line; see :mod:`arriero.data.child.serve`.
"""

from __future__ import annotations

from itertools import count

from arriero.data.child.serve import serve
from arriero.data.pages.tiers import load, page_text

_CACHES_EVERY = 1000


def main(tier: str, comments: bool, links: bool, trimmed: bool, memory: int) -> None:
    """Answer requests until the input ends. ``memory``: most bytes of address space."""
    load(tier)
    numbers = count(1)

    def answer(page: bytes) -> tuple[int, bytes]:
        if tier in ("trafilatura", "union") and next(numbers) % _CACHES_EVERY == 0:
            _reset_caches()
        return _answer(page, tier, comments, links, trimmed)

    serve(answer, memory)


def _answer(data: bytes, tier: str, comments: bool, links: bool, trimmed: bool) -> tuple[int, bytes]:
    try:
        text = page_text(data.decode("utf-8", "replace"), tier, comments, links, trimmed)
        return 0, text.encode("utf-8", "replace")
    except Exception as error:  # whatever a page provokes is that page's refusal
        return 1, f"{type(error).__name__}: {error}"[:300].replace("\n", " ").encode("utf-8", "replace")


def _reset_caches() -> None:
    from trafilatura.meta import reset_caches

    reset_caches()
