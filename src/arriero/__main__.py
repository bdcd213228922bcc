"""``arriero`` and ``python -m arriero``, which is what torchrun starts."""

from __future__ import annotations

import sys

from arriero.process import start_again_without_small_cache

TRAINING = ("run", "calibrate", "pretrain", "seq2seq", "sft", "regress", "dpo", "distill")
"""Commands that train, or measure how fast training is."""


def main() -> None:
    """Entry point of the command line."""
    if sys.argv[1:2] and sys.argv[1] in TRAINING:
        start_again_without_small_cache()
    from arriero.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
