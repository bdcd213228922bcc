"""Text of HTML pages: decode, check the budget, extract under the watchdog."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version

from arriero.data.extract import ExtractSettings, refuse
from arriero.data.extract.budget import over_budget
from arriero.data.extract.encoding import page_in_utf8
from arriero.data.extract.watchdog import PageWorker
from arriero.data.readers.sources import Problem
from arriero.data.records import Extraction, Limits, Record, Refused
from arriero.errors import ArrieroError

_TRIM_VERSION = 2
_PACKAGES = {
    "resiliparse": ("resiliparse",),
    "all_text": ("resiliparse",),
    "trafilatura": ("trafilatura", "resiliparse"),
    "union": ("resiliparse", "trafilatura"),
}


class HtmlExtractor:
    """Text of pages by the tier that the settings name.

    Raises:
        ArrieroError: a package that the tier needs is not installed.
    """

    def __init__(self, settings: ExtractSettings) -> None:
        for package in _PACKAGES[settings.tier]:
            if importlib.util.find_spec(package) is None:
                raise ArrieroError(
                    f"extracting HTML needs the package {package}: install it with pip install 'arriero[data]'"
                )
        self._name = extractor_name(settings)
        self._child = PageWorker(settings.tier, settings.comments, settings.links, settings.trim)

    def close(self) -> None:
        """End the child process; another starts if it is needed again."""
        self._child.close()

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        page = _decoded(record)
        if isinstance(page, Problem):
            return refuse(record, *page)
        if len(page) > limits.record_bytes:
            return refuse(record, "read.too_large", f"a page of {len(page)} bytes")
        text = over_budget(page, limits) or self._child.text(page, limits)
        if isinstance(text, Problem):
            return refuse(record, *text)
        if not text.strip():
            return refuse(record, "extract.empty", "no text is found in the page")
        return Extraction(text, self._name)


def _decoded(record: Record) -> bytes | Problem:
    """The page in UTF-8."""
    if isinstance(record.content, str):
        page: bytes | Problem = record.content.encode("utf-8", "replace")
    else:
        page = page_in_utf8(record.content, str(record.meta.get("charset", "")))
    if isinstance(page, bytes) and b"\0" in page:
        return Problem("extract.nul", f"{page.count(0)} NUL characters")
    return page


def extractor_name(settings: ExtractSettings) -> str:
    """The programs, their versions and the settings that shape a text."""
    programs = []
    for package in _PACKAGES[settings.tier]:
        try:
            programs.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            programs.append(package)
    words = [f"trim {_TRIM_VERSION}"] if settings.trim and settings.tier != "all_text" else []
    words += [name for name in ("comments", "links") if getattr(settings, name)]
    return ", ".join([f"{settings.tier}: {' + '.join(programs)}", *words])
