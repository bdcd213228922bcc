"""Text of arXiv submissions: a LaTeX source, plain, gzipped, or an archive of several files."""

from __future__ import annotations

import io
import tarfile
import zlib

from arriero.data.extract import ExtractSettings, refuse
from arriero.data.latex.document import decode, extract, find_main
from arriero.data.records import Extraction, Limits, Record, Refused

VERSION = "latex 1"
_KEPT = (".tex", ".ltx", ".latex", ".sty", ".txt", "")
_LEAST_EXPANSION = 1 << 20
"""A small file may become this large whatever it was."""


class _RefuseError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class LatexExtractor:
    """The body of a submission, its files joined, its comments gone and its macros expanded."""

    def __init__(self, settings: ExtractSettings) -> None:
        self._start, self._expand = settings.latex_start, settings.latex_macros
        self.name = f"{VERSION} (start={self._start}, macros={'expanded' if self._expand else 'kept'})"

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        """The text from the first section to the bibliography; refused where there is none.

        Reasons: ``extract.damaged``, ``extract.expansion`` (a bomb), ``extract.too_large``,
        ``extract.unsafe_member`` (a link or a path out of the archive), ``extract.not_tex``,
        ``extract.no_section``.
        """
        try:
            files = _files(record.content, limits)
        except _RefuseError as error:
            return refuse(record, error.reason, str(error))
        main = find_main(files)
        if main is None:
            return refuse(record, "extract.not_tex", "no file of it is a LaTeX source")
        found = extract(files, main, self._start, self._expand)
        if not found.text:
            return refuse(record, "extract.no_section", f"{main[:200]} has no section")
        if len(found.text) > limits.record_bytes:
            return refuse(record, "extract.expansion", "its macros grow over the limit of a record")
        left = dict(sorted(found.expansion.refused.items())[:20])
        meta = {
            **record.meta,
            "main": main,
            "files": len(files),
            "macros": len(found.expansion.definitions),
            **({"unexpanded": left} if left else {}),
        }
        return Extraction(found.text, self.name, record.license, record.license_evidence, record.lang, meta)


def _files(content: bytes | str, limits: Limits) -> dict[str, str]:
    if isinstance(content, str):
        return {"main.tex": content}
    if content[:2] == b"\x1f\x8b":
        content = _decompressed(content, limits)
    if content[:4] == b"%PDF" or content[:4] == b"%!PS":
        raise _RefuseError("extract.not_tex", "it is a PDF or PostScript file")
    if content[257:262] == b"ustar":
        return _members(content, limits)
    return {"main.tex": decode(content)}


def _decompressed(content: bytes, limits: Limits) -> bytes:
    most = min(limits.record_bytes, max(_LEAST_EXPANSION, limits.expansion * len(content)))
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(content, most + 1)
    except zlib.error as error:
        raise _RefuseError("extract.damaged", f"gzip: {error}") from None
    if len(found) > most:
        raise _RefuseError("extract.expansion", f"it grows to more than {most} bytes")
    if not unpacker.eof:
        raise _RefuseError("extract.damaged", "gzip: it is cut short")
    return found


def _members(content: bytes, limits: Limits) -> dict[str, str]:
    files: dict[str, str] = {}
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not _is_safe(member, name):
                    raise _RefuseError(
                        "extract.unsafe_member", f"{member.name[:200]!r} leads out of the archive"
                    )
                ending = name[name.rfind(".") :].lower() if "." in name.rsplit("/", 1)[-1] else ""
                if not member.isfile() or ending not in _KEPT:
                    continue
                total += member.size
                if total > limits.record_bytes:
                    raise _RefuseError(
                        "extract.too_large", f"its sources are over {limits.record_bytes} bytes"
                    )
                data = archive.extractfile(member)
                if data is not None:
                    files[name] = decode(data.read())
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, UnicodeError) as error:
        raise _RefuseError("extract.damaged", f"tar: {error}") from None
    return files


def _is_safe(member: tarfile.TarInfo, name: str) -> bool:
    """Links and devices have no place in a submission; neither has a path that leaves it."""
    parts = name.replace("\\", "/").split("/")
    return (member.isfile() or member.isdir()) and not name.startswith("/") and ".." not in parts
