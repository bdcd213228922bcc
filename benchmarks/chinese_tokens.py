"""Bytes per token of Chinese (or any) text before and after pieces are added: the table in docs/tokenizers.md.

    python benchmarks/chinese_tokens.py TEXT --tokenizers FILE [FILE ...] [--pieces 2000 8000]

TEXT is a text file, plain or .gz, or a folder of them; a document is what stands between empty lines. Every tenth is held
out: pieces are learnt from the others, bytes per token counted on those. The tokenizers are files or folders of any
format that Arriero reads (byte-level or SentencePiece-type BPE).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from texts import documents

HELD_OUT = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="a file or a folder")
    parser.add_argument("--tokenizers", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--pieces", type=int, nargs="+", default=[2000, 8000])
    options = parser.parse_args()
    from arriero.errors import ArrieroError
    from arriero.tokenization.bpe import bytes_per_token
    from arriero.tokenization.extend import extend
    from arriero.tokenization.load import load_tokenizer

    texts = list(documents(options.text))
    held = texts[::HELD_OUT]
    learnt = [text for number, text in enumerate(texts) if number % HELD_OUT]
    n_bytes = sum(len(text.encode()) for text in learnt)
    print(f"{len(learnt):,} documents to learn from ({n_bytes:,} bytes), {len(held):,} held out\n")
    print("| tokenizer | before | " + " | ".join(f"{count:,} pieces more" for count in options.pieces) + " |")
    print("| --- " * (2 + len(options.pieces)) + "|")
    for path in options.tokenizers:
        try:
            tokenizer = load_tokenizer(path)
            cells = [f"{bytes_per_token(tokenizer, held):.2f}"]
            for count in options.pieces:
                extended = extend(tokenizer, learnt, count)
                added = extended.vocab_size - tokenizer.vocab_size
                few = "" if added == count else f" (only {added:,})"
                cells.append(f"{bytes_per_token(extended, held):.2f}{few}")
        except ArrieroError as error:
            sys.exit(str(error))
        print(f"| {path} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
