"""The account of an up-weighting: what each bucket held, and how often it was taken."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

QUALITY_FILE = "quality.json"


class BucketAccount(BaseModel):
    """One bucket of the training split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    epochs: float
    """How often its documents should be taken, on the average."""
    documents: int
    bytes: int
    """UTF-8 bytes of its documents, each counted once."""
    left_out: int
    """Documents that were not taken at all."""
    written: int
    """Documents in the shards, copies counted."""
    unique_tokens: int
    """Of first copies, BOS and EOS counted."""
    repeated_tokens: int
    """Of further copies."""

    def line(self) -> str:
        """For reading."""
        achieved = self.written / self.documents if self.documents else 0.0
        return (
            f"{self.label}: {self.documents:,} documents taken {achieved:.2f} times ({self.epochs:g} wanted),"
            f" {self.left_out:,} left out; {self.unique_tokens:,} tokens unique and {self.repeated_tokens:,} repeated"
        )


class QualityAccount(BaseModel):
    """`quality.json` of a tokens artifact whose documents were weighted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure: str
    buckets: list[BucketAccount]

    @property
    def repeated_tokens(self) -> int:
        return sum(bucket.repeated_tokens for bucket in self.buckets)

    def lines(self) -> list[str]:
        """For reading; empty buckets are passed over."""
        return [bucket.line() for bucket in self.buckets if bucket.documents]


def together(accounts: Sequence[QualityAccount]) -> QualityAccount:
    """The sum of several files' accounts, all by the same settings."""
    summed = ("documents", "bytes", "left_out", "written", "unique_tokens", "repeated_tokens")
    buckets = [
        same[0].model_copy(update={key: sum(getattr(one, key) for one in same) for key in summed})
        for same in zip(*(account.buckets for account in accounts), strict=True)
    ]
    return accounts[0].model_copy(update={"buckets": buckets})
