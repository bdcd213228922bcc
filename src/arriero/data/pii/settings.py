"""What personal data is looked for, and what is put in its place."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["email", "phone", "ip", "card", "iban", "national_id", "secret"]
KINDS: tuple[Kind, ...] = ("email", "phone", "ip", "card", "iban", "national_id")
"""Kinds that are looked for by default; keys and secrets are for code."""


class PiiSettings(BaseModel):
    """Personal data that is masked. Kinds and counts are kept, the values nowhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: list[Kind] = Field(
        default=list(KINDS), description="what is masked; add secret for keys and passwords in source code"
    )
    style: Literal["tag", "example"] = Field(
        default="tag", description="put <EMAIL>, or an address of the same shape that belongs to nobody"
    )
    private_ips: bool = Field(
        default=False, description="mask IP addresses too that are not reachable from outside (10.0.0.1, ::1)"
    )
    max_per_1000_words: float | None = Field(
        default=None,
        gt=0,
        description="drop a document with more personal data than this for every 1,000 words (a directory, a leak)",
    )
    min_found: int = Field(
        default=5, ge=1, description="max_per_1000_words: keep a document that has fewer than so many in all"
    )
