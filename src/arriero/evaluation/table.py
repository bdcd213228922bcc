"""`scores.md`: the scores as a table for people."""

from __future__ import annotations

from arriero.evaluation.scores import Measure, Score, Scores, plain


def _cell(score: Score | None, unit: str) -> str:
    if score is None:
        return "–"
    if score.low is None or score.high is None:
        return plain(score.value, unit)
    low, high = plain(score.low, unit).removesuffix(" %"), plain(score.high, unit).removesuffix(" %")
    return f"{plain(score.value, unit)} ({low}–{high})"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _heading(measure: Measure) -> str:
    unit = "" if measure.unit == "share" else f", {measure.unit}"
    return f"{measure.title}{unit} ({measure.better} is better)"


def scores_markdown(scores: Scores) -> str:
    """Models as rows, measures as columns, then the verdicts and what was compared."""
    lines = [
        "| model | parameters | bytes | " + " | ".join(_heading(m) for m in scores.measures) + " |",
        "| --- " * (3 + len(scores.measures)) + "|",
    ]
    for model in scores.models:
        found = {m.name: next((s for s in m.scores if s.model == model.name), None) for m in scores.measures}
        size = f"{model.weight_bytes:,}" if model.weight_bytes is not None else "–"
        cells = [_cell(found[m.name], m.unit) for m in scores.measures]
        lines.append(
            f"| {_escape(model.name)} | {model.n_parameters:,} | {size} | " + " | ".join(cells) + " |"
        )
    for measure in scores.measures:
        lines += ["", f"**{measure.title}** on {measure.n:,} of {measure.of:,} held-out {measure.items}:", ""]
        lines += [f"- {_escape(difference.verdict)}" for difference in measure.differences]
    share = f"{100 * scores.confidence:g} %"
    lines += [
        "",
        f"In brackets: {share} intervals by bootstrap, {scores.bootstrap_samples:,} draws of the items.",
    ]
    return "\n".join([*lines, *(f"\n{_escape(note)}" for note in scores.notes)]) + "\n"
