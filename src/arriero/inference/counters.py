"""What an engine has done since it was made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EngineCounters:
    """Running totals, and what is in use now.

    Attributes:
        prompt_tokens: tokens of prompts whose reading began, once for each answer; ``cached_tokens`` of them were
            found in the pool.
        generated_tokens: tokens of answers. steps: times the model was run.
        preemptions: answers that lost their place and had to be computed again.
        rejected: requests that were refused. aborted: requests that were ended from outside.
        spec_proposed, spec_accepted: guessed tokens that the model checked, and those of them it agreed with.
        blocks_used, blocks_total: blocks of the key-value pool that sequences own now, and all. Blocks that are kept
            for reuse alone do not count as used.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    rejected: int = 0
    steps: int = 0
    aborted: int = 0
    spec_proposed: int = 0
    spec_accepted: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
