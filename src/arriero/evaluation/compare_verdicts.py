"""Who is better than whom: said only where neither the seeds nor the documents could have made it so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from arriero.evaluation.compare_result import VIEWS, Ends, Figure, Verdict, View
from arriero.evaluation.scores import signed

UNIT = "bits/byte"


def judge_figure(found: Figure, needs_documents: bool) -> bool | None:
    """Is a difference in bits per byte an improvement? None unless all its intervals lie on one side of 0."""
    ends = [found.seeds, found.documents] if needs_documents else [found.seeds]
    if any(pair is None or pair[0] <= 0 <= pair[1] for pair in ends):
        return None
    return found.value < 0


def verdict(view: View, model: str, to: str, found: Figure, ngram: str | None) -> Verdict:
    """One difference judged and put in words. At equal tokens the seeds alone decide: documents were not kept."""
    better = judge_figure(found, view != "equal_tokens")
    relation = "cannot be told from" if better is None else "is better than" if better else "is worse than"
    bands = [_band("seeds", found.seeds), _band("documents", found.documents)]
    figures = "; ".join([f"{signed(found.value, UNIT)} {UNIT}", *(band for band in bands if band)])
    where, who, whom = VIEWS[view] + ", ", model, to
    if view == "mixture":
        where, who, whom = "", f"{model} mixed with {ngram}", f"{to} alone"
    return Verdict(
        view=view, model=model, to=to, difference=found, better=better,
        sentence=f"{where}{who} {relation} {whom} ({figures})",
    )  # fmt: skip


def _band(name: str, ends: Ends | None) -> str:
    if ends is None or ends[0] == ends[1]:
        return ""
    return f"{name} {signed(ends[0], UNIT)} to {signed(ends[1], UNIT)}"


def pairs(view: View, names: Sequence[str], ngram: str | None) -> Iterator[tuple[str, str]]:
    """Which families are set side by side: each with the one before it, and with the best n-gram model.

    A mixture is set beside the n-gram model alone: does the net add anything to it?
    """
    seen: set[frozenset[str]] = set()
    for before, name in zip([None, *names], names, strict=False):
        for to in (before if view != "mixture" else None, ngram):
            if to in names and to != name and frozenset((name, str(to))) not in seen:
                seen.add(frozenset((name, str(to))))
                yield name, str(to)
