"""Make noisy.jsonl.gz and clean.jsonl.gz from the texts in this folder: a web crawl in small, and text to test on.

    python make_noisy.py

Stories, encyclopedia articles and web pages are dealt out in turn: seven of eight go into the crawl, the eighth into
the clean text, which shares no document with it. In the crawl, as in real ones (Penedo et al. 2023, Rae et al. 2021),
most bytes are something else: pages copied with another header (near-duplicates), menus and notices without a
sentence, lists of search words, the same advertisement filled in, logs and numbers, encoded files, and text decoded
with the wrong character set. Every line says what it is in `kind`, which no rule looks at.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
from pathlib import Path

HERE = Path(__file__).parent
SEED = 7
CLEAN = 8
"""One document in so many is held out."""
NOISE = 1.5
"""Bytes of noise for each byte of text."""


def documents(name: str) -> list[str]:
    with gzip.open(HERE / name, "rt", encoding="utf-8") as file:
        if name.endswith(".jsonl.gz"):
            return [json.loads(line)["text"] for line in file]
        return [part.strip() for part in file.read().split("\n\n\n") if part.strip()]


def copied(rng: random.Random, text: str) -> str:
    """Another site's copy: a header, a share line, a changed word here and there."""
    words = text.split(" ")
    for _ in range(max(1, len(words) // 150)):
        words[rng.randrange(len(words))] = rng.choice(["indeed", "the", "very", "said"])
    day = f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.20{rng.randint(10, 24)}"
    return f"Posted on {day} by user{rng.randrange(9999)}\n\n{' '.join(words)}\n\nShare this page"


def menu(rng: random.Random, vocabulary: list[str]) -> str:
    entries = [" ".join(rng.choices(vocabulary, k=rng.randint(1, 3))).title() for _ in range(rng.randint(30, 90))]
    notices = ["Accept cookies", "Privacy policy", "Terms of use", "Log in | Sign up", "Back to top", "All rights reserved"]
    return "\n".join(entry for pair in zip(entries, rng.choices(notices, k=len(entries)), strict=True) for entry in pair)


def search_words(rng: random.Random, vocabulary: list[str]) -> str:
    phrases = [" ".join(rng.choices(vocabulary, k=3)) for _ in range(8)]
    return ", ".join(f"{rng.choice(['buy', 'cheap', 'best', 'free'])} {rng.choice(phrases)} online" for _ in range(120))


def advertisement(rng: random.Random, vocabulary: list[str]) -> str:
    town, thing = rng.choice(vocabulary).title(), rng.choice(vocabulary)
    line = f"Looking for {thing} in {town}? We offer the best {thing} in {town} at the lowest price in {town}."
    return "\n".join([line] * rng.randint(6, 14) + [f"Call {rng.randrange(10**9, 10**10)} now!"])


def log(rng: random.Random) -> str:
    return "\n".join(
        f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d} {rng.randrange(24):02d}:{rng.randrange(60):02d}"
        f" [{rng.choice(['INFO', 'WARN', 'DEBUG'])}] worker-{rng.randrange(64)} 0x{rng.getrandbits(48):012x} {rng.randrange(10**6)}"
        for _ in range(rng.randint(20, 60))
    )


def encoded(rng: random.Random) -> str:
    return base64.encodebytes(rng.randbytes(rng.randint(800, 3000))).decode()


def misread(text: str) -> str:
    """UTF-8 read as another character set, twice; plain ASCII gets the marks that such pages have."""
    marked = text.replace("'", "\u2019").replace('"', "\u201d").replace(" ", "\u00a0")
    return marked.encode().decode("latin-1").encode().decode("latin-1")


def noise(rng: random.Random, texts: list[str], vocabulary: list[str]) -> tuple[str, str]:
    kind = rng.choices(
        ["copied", "menu", "search_words", "advertisement", "log", "encoded", "misread"], [6, 4, 3, 3, 2, 2, 1]
    )[0]
    text = rng.choice(texts)
    made = {
        "copied": lambda: copied(rng, text), "menu": lambda: menu(rng, vocabulary),
        "search_words": lambda: search_words(rng, vocabulary), "advertisement": lambda: advertisement(rng, vocabulary),
        "log": lambda: log(rng), "encoded": lambda: encoded(rng), "misread": lambda: misread(text[:1500]),
    }  # fmt: skip
    return kind, made[kind]()


def write(name: str, rows: list[dict[str, str]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (HERE / name).write_bytes(gzip.compress(lines.encode(), mtime=0))


def main() -> None:
    rng = random.Random(SEED)
    texts = [text for name in ("stories.txt.gz", "encyclopedia.txt.gz", "web_pages.jsonl.gz") for text in documents(name)]
    paragraphs = [text if len(text) < 6000 else text[:6000].rsplit("\n", 1)[0] for text in texts]
    clean = paragraphs[::CLEAN]
    crawl = [text for number, text in enumerate(paragraphs) if number % CLEAN]
    vocabulary = sorted({word.lower() for text in crawl for word in text.split() if word.isalpha() and len(word) > 3})
    rows = [{"kind": "text", "text": text} for text in crawl]
    wanted = NOISE * sum(len(text) for text in crawl)
    size = 0
    while size < wanted:
        kind, text = noise(rng, crawl, vocabulary)
        rows.append({"kind": kind, "text": text})
        size += len(text)
    rng.shuffle(rows)
    write("noisy.jsonl.gz", rows)
    write("clean.jsonl.gz", [{"kind": "text", "text": text} for text in clean])


if __name__ == "__main__":
    main()
