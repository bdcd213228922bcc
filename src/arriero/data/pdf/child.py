"""The child process that opens PDF files: a PDF comes, JSON goes; see :mod:`arriero.data.child.serve`."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

from arriero.data.child.serve import serve


def main(memory: int, pages: int, characters: int) -> None:
    """Answer requests until the input ends."""
    logging.disable(logging.CRITICAL)  # pypdf logs whatever it finds wrong
    serve(lambda content: (0, json.dumps(_answer(content, memory, pages, characters)).encode()), memory)


def _answer(content: bytes, memory: int, pages: int, characters: int) -> dict[str, Any]:
    try:
        return texts_of(content, pages, characters)
    except MemoryError:
        return {"reason": "extract.memory", "detail": f"needs more than {memory >> 20} MiB"}
    except RecursionError:
        return {"reason": "extract.too_deep", "detail": "objects refer to each other too deeply"}
    # pypdf raises nearly any exception on damaged files
    except Exception as error:
        return {"reason": "extract.damaged", "detail": f"{type(error).__name__}: {error}"[:200]}


def texts_of(content: bytes, pages: int, characters: int) -> dict[str, Any]:
    """``{"pages": [text, ...], "count": all pages}`` or ``{"reason", "detail"}``."""
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(content), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        return {"reason": "extract.encrypted", "detail": "a password is needed"}
    count = len(reader.pages)
    if count > pages:
        return {"reason": "extract.too_many_pages", "detail": f"{count} pages"}
    texts, total = [], 0
    for page in reader.pages:
        text = page.extract_text() or ""
        total += len(text)
        if total > characters:
            return {"reason": "extract.too_large", "detail": f"more than {characters:,} characters of text"}
        texts.append(text)
    return {"pages": texts, "count": count}
