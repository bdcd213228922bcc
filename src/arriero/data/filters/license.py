"""Documents by their licence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arriero.data.filters.base import Doc, Verdict, strings_of
from arriero.data.licenses.policy import REASONS, LicensePolicy, LicenseSettings

if TYPE_CHECKING:
    import pyarrow as pa


class LicenseFilter:
    """Drops documents by the ledger's column ``license``; see :class:`LicensePolicy`."""

    stage = "license"
    needs: Literal["record", "text"] = "text"
    reasons = REASONS

    def __init__(self, settings: LicenseSettings) -> None:
        self._policy, self._sources = LicensePolicy(settings), frozenset(settings.sources)

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        return {}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        if self._sources and columns.get("source") not in self._sources:
            return None
        reason = self._policy.reason_of(columns.get("license"))
        return Verdict(reason, 0.0, 1.0) if reason else None

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        reasons = [self._policy.reason_of(name) for name in strings_of(table, "license")]
        if self._sources:
            sources = strings_of(table, "source")
            reasons = [
                one if source in self._sources else None for one, source in zip(reasons, sources, strict=True)
            ]
        return np.array([REASONS.index(one) if one else -1 for one in reasons], np.int64)
