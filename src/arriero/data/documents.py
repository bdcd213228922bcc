"""A document of a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Document:
    """A text and where it comes from. The keys of a corpus line, in this order."""

    id: str
    text: str
    source: str
    url: str | None = None
    license: str = "unknown"
    lang: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "id": self.id, "text": self.text, "source": self.source, "url": self.url, "license": self.license,
            "lang": self.lang, "meta": dict(self.meta),
        }  # fmt: skip

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Document:
        """From a JSON object that :meth:`record` made."""
        return cls(**record)
