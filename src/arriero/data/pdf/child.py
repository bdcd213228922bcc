"""The child process that opens PDF files. Reads requests from standard input, answers on standard output; ends when
the input does. Each message is its length (8 bytes, big endian) and as many bytes: a PDF one way, JSON the other.

Started with ``python -m arriero.data.pdf.child MEMORY PAGES CHARACTERS``.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from typing import Any, BinaryIO


def main() -> None:
    memory, pages, characters = (int(value) for value in sys.argv[1:4])
    _bound(memory)
    # pypdf may print or log what it finds wrong; the channel is for answers alone
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    requests = sys.stdin.buffer
    while (content := receive(requests)) is not None:
        try:
            answer = texts_of(content, pages, characters)
        except MemoryError:
            answer = {"reason": "extract.memory", "detail": f"needs more than {memory >> 20} MiB"}
        except RecursionError:
            answer = {"reason": "extract.too_deep", "detail": "objects refer to each other too deeply"}
        # pypdf raises nearly any exception on damaged files
        except Exception as error:
            answer = {"reason": "extract.damaged", "detail": f"{type(error).__name__}: {error}"[:200]}
        send(channel, json.dumps(answer).encode())


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


def receive(file: BinaryIO) -> bytes | None:
    """The next message; None at the end."""
    head = _exactly(file, 8)
    return None if head is None else _exactly(file, int.from_bytes(head, "big"))


def send(file: BinaryIO, content: bytes) -> None:
    """Write one message."""
    file.write(len(content).to_bytes(8, "big") + content)
    file.flush()


def _exactly(file: BinaryIO, count: int) -> bytes | None:
    content = file.read(count)
    return content if content is not None and len(content) == count else None


def _bound(memory: int) -> None:
    """Let the process have so many bytes of address space, where the system knows such a bound."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    main()
