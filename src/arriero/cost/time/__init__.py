"""Seconds of a training step or of an answer, as a sum of terms with few coefficients and a band."""

from __future__ import annotations

from arriero.cost.time.coefficients import Coefficients, prior
from arriero.cost.time.fit import fit
from arriero.cost.time.model import step_terms
from arriero.cost.time.rows import Observation
from arriero.cost.time.serving import decode_seconds, prefill_seconds
from arriero.cost.time.terms import TimeTerms
from arriero.cost.time.tiers import TIERS, Tier

__all__ = [
    "TIERS", "Coefficients", "Observation", "Tier", "TimeTerms", "decode_seconds", "fit", "prefill_seconds", "prior",
    "step_terms",
]  # fmt: skip
