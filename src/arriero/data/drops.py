"""The account of a curation: every document that came in was kept, or dropped for one reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

_EXCERPT = 200
"""Characters of a dropped document that are kept for the record."""


@dataclass(frozen=True)
class Drop:
    """One dropped document. ``survivor``: the document that it is a duplicate of."""

    id: str
    source: str
    reason: str
    value: float
    threshold: float
    survivor: str | None = None
    text: str = ""

    def record(self) -> dict[str, Any]:
        """As a JSON object, with the beginning of the text only."""
        return {**asdict(self), "value": round(self.value, 6), "text": self.text[:_EXCERPT]}


@dataclass
class SourceAccount:
    """Documents and bytes of one source; bytes are UTF-8 bytes of the texts as they came in."""

    source: str
    documents_in: int = 0
    bytes_in: int = 0
    documents_kept: int = 0
    bytes_kept: int = 0
    text_bytes: int = 0
    """Bytes of the kept texts after normalisation."""
    documents_dropped: dict[str, int] = field(default_factory=dict)
    bytes_dropped: dict[str, int] = field(default_factory=dict)

    def take(self, n_bytes: int) -> None:
        """A document came in."""
        self.documents_in += 1
        self.bytes_in += n_bytes

    def drop(self, reason: str, n_bytes: int) -> None:
        """It was dropped."""
        self.documents_dropped[reason] = self.documents_dropped.get(reason, 0) + 1
        self.bytes_dropped[reason] = self.bytes_dropped.get(reason, 0) + n_bytes

    def keep(self, n_bytes: int, text_bytes: int) -> None:
        """It was kept."""
        self.documents_kept += 1
        self.bytes_kept += n_bytes
        self.text_bytes += text_bytes

    def check(self) -> None:
        """What came in must be what was kept and what was dropped, by documents and by bytes."""
        documents = self.documents_kept + sum(self.documents_dropped.values())
        n_bytes = self.bytes_kept + sum(self.bytes_dropped.values())
        if (documents, n_bytes) != (self.documents_in, self.bytes_in):
            raise AssertionError(
                f"the account of {self.source} does not close: {self.documents_in} documents and {self.bytes_in} bytes"
                f" came in, {documents} and {n_bytes} are accounted for"
            )

    def facts(self) -> dict[str, Any]:
        """As a JSON object, reasons with the most documents first."""
        reasons = sorted(self.documents_dropped, key=lambda r: (-self.documents_dropped[r], r))
        return {
            "source": self.source,
            "in": {"documents": self.documents_in, "bytes": self.bytes_in},
            "kept": {"documents": self.documents_kept, "bytes": self.bytes_kept, "text_bytes": self.text_bytes},
            "dropped": {
                r: {"documents": self.documents_dropped[r], "bytes": self.bytes_dropped[r]} for r in reasons
            },
        }  # fmt: skip


def total_account(accounts: list[SourceAccount]) -> SourceAccount:
    """Sum over sources."""
    total = SourceAccount("total")
    for account in accounts:
        for name in ("documents_in", "bytes_in", "documents_kept", "bytes_kept", "text_bytes"):
            setattr(total, name, getattr(total, name) + getattr(account, name))
        for name in ("documents_dropped", "bytes_dropped"):
            sums = getattr(total, name)
            for reason, count in getattr(account, name).items():
                sums[reason] = sums.get(reason, 0) + count
    return total
