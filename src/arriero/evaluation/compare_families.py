"""From models to the comparison of their families."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError
from arriero.evaluation.bootstrap import Resampling
from arriero.evaluation.compare import CompareSettings
from arriero.evaluation.compare_entrants import (
    PAPERS,
    Entrant,
    Training,
    bits_per_nat,
    entrants,
    group_name,
    grouped,
    training_of,
)
from arriero.evaluation.compare_result import VIEWS, Comparison, CurvePoint, Family, Run, Verdict
from arriero.evaluation.compare_scorer import TokenLogs, TokenScorer
from arriero.evaluation.compare_verdicts import pairs, verdict
from arriero.evaluation.compare_views import (
    Column,
    Halves,
    Views,
    at_tokens,
    column,
    common_tokens,
    difference,
    figure,
    mixture_column,
)
from arriero.evaluation.documents import Documents, load_documents
from arriero.stage import Context, TokensSpec, open_input

_SAME_COST = 1.05
"""Largest ratio of two costs that count as equal."""


class Comparer:
    """One comparison: scores the models, works out the views, judges."""

    def __init__(
        self, settings: CompareSettings, tokens: Artifact, models: Sequence[Artifact], context: Context
    ) -> None:
        self.settings, self.tokens = settings, tokens
        self.groups = {group_name(runs): runs for runs in grouped(entrants(models, tokens))}
        self.trainings = {run.name: training_of(run) for runs in self.groups.values() for run in runs}
        self.halves = Halves(_documents(settings, tokens))
        self.how = Resampling(settings.bootstrap_samples, settings.confidence, context.seed)
        found = [run for runs in self.groups.values() for run in runs]
        self.scorer = TokenScorer(tokens, self.halves.documents, found, settings.stride, context)
        self.logs: dict[str, TokenLogs] = {}
        self.spec: TokensSpec = open_input(tokens, TokensSpec)
        self.per_token = bits_per_nat(self.spec.splits[settings.split])
        self.views = Views()
        self.tokens_compared = common_tokens(self.trainings)

    def run(self) -> Comparison:
        """
        Raises:
            Interrupted: asked to stop; what is scored so far is kept.
            ArrieroError: the models cannot be compared.
        """
        for runs in self.groups.values():
            for entrant in runs:
                self.logs[entrant.name] = self.scorer.logs(entrant)
        ngram = self._best_ngram()
        for name, runs in self.groups.items():
            logs = [self.logs[run.name] for run in runs]
            self.views.equal_time[name] = column(logs, self.halves, runs[0].is_ngram)
            self._at_equal_tokens(name, runs)
            if ngram is not None and not runs[0].is_ngram:
                self.views.mixture[name], self.views.weights[name] = mixture_column(
                    logs, self.logs[self.groups[ngram][0].name], self.halves
                )
        if ngram is not None and self.views.mixture:
            self.views.mixture[ngram] = self.views.equal_time[ngram]
        return self._comparison(ngram)

    def _best_ngram(self) -> str | None:
        """The n-gram model that predicts the tuning documents best."""
        there = [name for name, runs in self.groups.items() if runs[0].is_ngram]
        return min(
            there,
            key=lambda name: self.halves.tuning_bits(self.logs[self.groups[name][0].name]),
            default=None,
        )

    def _at_equal_tokens(self, name: str, runs: list[Entrant]) -> None:
        most = self.tokens_compared
        if most is None:
            return
        if runs[0].is_ngram:
            ngram, train = runs[0], self.spec.splits["train"].tokens
            own = self.logs[ngram.name] if most >= train else self.scorer.refitted(ngram, int(most))
            self.views.equal_tokens[name] = column([own], self.halves, True)
            return
        finals = self.views.equal_time[name].by_run
        found = [
            at_tokens(self.trainings[run.name], most, final, self.per_token)
            for run, final in zip(runs, finals, strict=True)
        ]
        known = [value for value in found if value is not None]
        if len(known) == len(runs):
            self.views.equal_tokens[name] = Column(known, None, False)

    # ------------------------------------------------------------------------------- the result

    def _comparison(self, ngram: str | None) -> Comparison:
        documents, settings = self.halves.documents, self.settings
        return Comparison(
            confidence=settings.confidence, bootstrap_samples=settings.bootstrap_samples, split=settings.split,
            documents=len(documents.ids[1::2]), bytes=int(self.halves.reported_bytes.sum()),
            tuning_documents=len(documents.ids[0::2]),
            tokens_compared=int(self.tokens_compared) if self.tokens_compared is not None else None, ngram=ngram,
            families=[self._family(name, runs, ngram) for name, runs in self.groups.items()],
            verdicts=self._verdicts(ngram), notes=self._notes(),
        )  # fmt: skip

    def _family(self, name: str, runs: list[Entrant], ngram: str | None) -> Family:
        views, family = self.views, runs[0].family
        year, paper = PAPERS.get(family, (None, ""))
        trainings = [self.trainings[run.name] for run in runs]
        tokens = [training.tokens for training in trainings if training.tokens is not None]
        return Family(
            name=name, family=family, year=self.settings.years.get(family, year), paper=paper,
            n_parameters=runs[0].spec.n_parameters,
            cpu_seconds=float(np.mean([training.cpu_seconds for training in trainings])),
            tokens=float(np.mean(tokens)) if tokens else None,
            runs=[self._run(name, place, run) for place, run in enumerate(runs)],
            **{
                view: figure(columns[name], self.halves, self.how) if name in columns else None
                for view, columns in (
                    ("equal_time", views.equal_time), ("equal_tokens", views.equal_tokens),
                    ("mixture", {k: v for k, v in views.mixture.items() if k != ngram}),
                )
            },
        )  # fmt: skip

    def _run(self, name: str, place: int, run: Entrant) -> Run:
        training, views = self.trainings[run.name], self.views
        return Run(
            name=run.name, seed=run.seed, bits_per_byte=views.equal_time[name].by_run[place],
            tokens=training.tokens, cpu_seconds=training.cpu_seconds, stage_cpu_seconds=training.stage_cpu_seconds,
            equal_tokens=views.equal_tokens[name].by_run[place] if name in views.equal_tokens else None,
            mixture=views.mixture[name].by_run[place] if name in views.weights else None,
            mixture_weight=views.weights[name][place] if name in views.weights else None,
            curve=self._curve(training),
        )  # fmt: skip

    def _curve(self, training: Training) -> list[CurvePoint]:
        return [
            CurvePoint(tokens=tokens, cpu_seconds=seconds, bits_per_byte=loss * self.per_token)
            for tokens, seconds, loss in training.curve
        ]

    def _verdicts(self, ngram: str | None) -> list[Verdict]:
        found = []
        for view in VIEWS:
            columns: dict[str, Column] = getattr(self.views, view)
            names = [name for name in self.groups if name in columns]
            for name, to in pairs(view, names, ngram):
                apart = difference(columns[name], columns[to], self.halves, self.how)
                found.append(verdict(view, name, to, apart, ngram))
        return found

    def _notes(self) -> list[str]:
        single = [name for name, runs in self.groups.items() if len(runs) == 1 and not runs[0].is_ngram]
        notes = [
            "Seeds: t-interval of the mean over runs that differ in their seed. Documents: bootstrap over the scored "
            "documents, drawn together for both sides of a difference. No correction is made for the number of pairs."
        ]
        costs = [
            self.trainings[r.name].cpu_seconds
            for runs in self.groups.values()
            for r in runs
            if not r.is_ngram
        ]
        if costs and max(costs) > _SAME_COST * min(costs):
            notes.append(
                f"The nets trained for {min(costs):,.1f} to {max(costs):,.1f} CPU seconds, so 'at equal time' is not "
                "quite that; give their stages the same duration in cpu-seconds."
            )
        if single:
            notes.append(f"One seed only, so nothing is said of its noise: {', '.join(single)}.")
        if self.tokens_compared is not None:
            notes.append(
                f"Equal tokens: at {self.tokens_compared:,.0f} training tokens, read from each run's held-out curve. "
                "Only the slowest run has finished its learning-rate schedule there, which favours it."
            )
        return notes


def _documents(settings: CompareSettings, tokens: Artifact) -> Documents:
    documents = load_documents(tokens.path, settings.split, settings.max_documents)
    if len(documents.ids) < 4 or not documents.bytes[0::2].sum() or not documents.bytes[1::2].sum():
        raise ArrieroError(
            f"{tokens.path}: the split '{settings.split}' has {len(documents.ids)} documents; a comparison needs at "
            "least four with text, half of them to tune on"
        )
    return documents
