"""`seeds: [1, 2, 3]` in a recipe: one stage written once and made once for each seed.

``lstm`` with three seeds is the stages ``lstm-1``, ``lstm-2`` and ``lstm-3``. An input that takes many artifacts
may name ``lstm`` and gets all three; each of them has a key of its own, so adding a seed makes one stage anew.
"""

from __future__ import annotations

from typing import Any

from arriero.recipe.source import Source

SEEDS = "seeds"


def read_seeds(source: Source, name: str, body: Any) -> list[int] | None:
    """The seeds that a stage is to be made with, None where it names none.

    Raises:
        ArrieroError: not a list of different whole numbers, or ``seed`` is given too.
    """
    if not isinstance(body, dict) or SEEDS not in body:
        return None
    seeds, loc = body[SEEDS], ("stages", name, SEEDS)
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise source.error(
            loc, f"stage '{name}': 'seeds' should be a list of whole numbers, e.g. [1, 2, 3], not {seeds!r}"
        )
    if len(set(seeds)) < len(seeds):
        raise source.error(loc, f"stage '{name}': 'seeds' names a seed twice: {seeds}")
    if "seed" in body:
        raise source.error(loc, f"stage '{name}': give 'seed' or 'seeds', not both")
    return seeds


def made_names(source: Source, stages: dict[str, Any]) -> dict[str, list[str]]:
    """What each name that an input may give stands for: stage names, in the order of the seeds.

    Raises:
        ArrieroError: ``seeds`` is wrong, or a name that it makes is taken.
    """
    groups: dict[str, list[str]] = {name: [name] for name in stages}
    for name, body in stages.items():
        seeds = read_seeds(source, name, body)
        if seeds is None:
            continue
        groups[name] = [f"{name}-{seed}" for seed in seeds]
        for made in groups[name]:
            if made in groups:
                raise source.error(
                    ("stages", name, SEEDS), f"stage '{name}': its seeds make a second stage named '{made}'"
                )
            groups[made] = [made]
    return groups
