"""Which licences stay: an allow-list; what is not known is refused unless it is asked for."""

from __future__ import annotations

import fnmatch
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from arriero.data.licenses.spdx import license_named, parse

_LLAMA1 = ("Apache-*", "BSD-*", "LicenseRef-BSD", "MIT", "MIT-*")
_PERMISSIVE = (
    *_LLAMA1, "0BSD", "BlueOak-1.0.0", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "LicenseRef-public-domain", "NCSA",
    "NTP", "PostgreSQL", "PSF-2.0", "Python-2.0", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "UPL-1.0",
    "WTFPL", "X11", "Zlib",
)  # fmt: skip
LICENSE_PRESETS: dict[str, tuple[str, ...]] = {"llama1": _LLAMA1, "permissive": _PERMISSIVE}
"""Patterns of SPDX identifiers. ``llama1``: Apache, BSD and MIT, as in Touvron et al. 2023, section 2.1."""

REASONS = ("license.not_allowed", "license.unknown")


class LicenseSettings(BaseModel):
    """The allow-list of a source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["llama1", "permissive", "none"] = Field(
        default="llama1",
        description="licences that stay: llama1 (Apache, BSD, MIT), permissive (these, ISC, Zlib, public domain, ...),"
        " none (only those of allow)",
    )
    allow: list[str] = Field(
        default=[],
        description="more licences that stay: SPDX identifiers, with * for any ending (CC-BY-SA-*)",
    )
    sources: list[str] = Field(default=[], description="names of the sources that it applies to; []: all")
    unknown: bool = Field(default=False, description="whether documents of unknown licence stay")


class LicensePolicy:
    """The allow-list, applied to SPDX expressions: all licences of an AND must be allowed, one of an OR."""

    def __init__(self, settings: LicenseSettings) -> None:
        patterns = (*LICENSE_PRESETS.get(settings.preset, ()), *settings.allow)
        self._patterns, self._unknown = tuple(pattern.lower() for pattern in patterns), settings.unknown
        self.reason_of = lru_cache(maxsize=4096)(self._reason_of)
        """Why a document under a licence goes, one of :data:`REASONS`; None: it stays."""

    def allows(self, license: str | None) -> bool:
        """Whether a document under this licence (an SPDX expression; None: unknown) stays."""
        return self.reason_of(license) is None

    def _reason_of(self, license: str | None) -> str | None:
        if not license or license == "unknown":
            return None if self._unknown else "license.unknown"
        expression = parse(license) or license_named(license)
        if expression is None:
            return "license.not_allowed"
        return None if expression.allows(self._is_allowed) else "license.not_allowed"

    def _is_allowed(self, id: str) -> bool:
        plain = id.lower().removesuffix("-only").removesuffix("-or-later").removesuffix("+")
        return any(fnmatch.fnmatchcase(name, one) for name in (id.lower(), plain) for one in self._patterns)
