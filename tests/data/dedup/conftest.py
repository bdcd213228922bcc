from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Made-up corpora; see dup_corpus.py."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import dup_corpus  # type: ignore[import-not-found]

    return dup_corpus
