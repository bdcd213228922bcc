"""One step: the rows that the scheduler planned, run, and what the sequences make of their logits."""

from __future__ import annotations

import numpy as np

from arriero.errors import ArrieroError
from arriero.inference.counters import EngineCounters
from arriero.inference.guessing import guess, learn
from arriero.inference.request import Event
from arriero.inference.rows import Rows, Runner
from arriero.inference.scheduler import Piece, Scheduler, Task
from arriero.inference.speculative.speculator import Speculator

Gain = tuple[Task, list[Event]]
"""A sequence and what came of it in a step."""


class Stepper:
    """Runs steps.

    Attributes:
        rows_of: rows that the last step ran for each request, by its id.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        speculator: Speculator,
        counters: EngineCounters,
        vocabulary: int,
    ) -> None:
        """``vocabulary``: ids that may be generated; a model may have logits for more."""
        self._runner, self._scheduler, self._speculator = runner, scheduler, speculator
        self._counters, self._vocabulary = counters, vocabulary
        self.rows_of: dict[int, int] = {}

    def run(self, pieces: list[Piece]) -> list[Gain]:
        """Run the model on the pieces and let the sequences take their tokens; those that end are still there."""
        self.rows_of = {}
        if not pieces:
            return []
        self._counters.steps += 1
        lengths = guess(self._speculator, self._scheduler, pieces)
        rows = Rows()
        for piece in pieces:
            self._add_rows(rows, piece)
        logits = self._runner.run(rows)[:, : self._vocabulary].to("cpu").numpy()
        gains: list[Gain] = []
        first = 0
        for piece in pieces:
            wanted = _wanted(piece)
            gains += self._take(piece, logits[first : first + len(wanted)])
            first += len(wanted)
        learn(self._speculator, pieces, lengths)
        return gains

    def _add_rows(self, rows: Rows, piece: Piece) -> None:
        task = piece.task
        ids = task.sequence.ids[task.stored : task.stored + piece.count] + piece.guesses
        rows.add(ids, task.stored, task.blocks, list(_wanted(piece)), task.adapter)
        number = task.sequence.id
        self.rows_of[number] = self.rows_of.get(number, 0) + len(ids)

    def _take(self, piece: Piece, logits: np.ndarray) -> list[Gain]:
        """What comes of a piece's logits ``[wanted, V]``."""
        task = piece.task
        if task.sequence.wants_prompt_logits:
            task.sequence.note_prompt(logits, task.stored)
            logits = logits[-1:]
        self._scheduler.stored(task, piece.count)
        if task.pending:
            return []
        return [(mate, self._accept(mate, logits)) for mate in [task, *self._scheduler.fork(task)]]

    def _accept(self, task: Task, logits: np.ndarray) -> list[Event]:
        """Let a sequence take its tokens from logits ``[1 + guesses, V]``."""
        self._count_prompt(task)
        sequence, guessed = task.sequence, len(logits) - 1
        try:
            events = sequence.verify(list(logits)) if guessed else [sequence.accept(logits[0])]
        except ArrieroError as error:  # of this answer alone: the others go on
            return [sequence.fail(str(error))]
        if guessed:
            taken = len(events) - 1  # these were guessed right, so what was stored for them is theirs
            self._scheduler.stored(task, taken)
            self._counters.spec_proposed += guessed
            self._counters.spec_accepted += taken
        self._counters.generated_tokens += sum(e.token_id is not None for e in events)
        return events

    def _count_prompt(self, task: Task) -> None:
        """Count a prompt when its first token is about to be chosen."""
        if task.counted:
            return
        task.counted = True
        task.sequence.cached_tokens = task.cached
        self._counters.prompt_tokens += task.sequence.prompt_length
        self._counters.cached_tokens += task.cached


def _wanted(piece: Piece) -> range:
    """The rows of a piece, counted within it, whose logits are of use."""
    if piece.task.sequence.wants_prompt_logits:
        return range(piece.count)
    done = piece.count == piece.task.pending
    return range(piece.count - 1 if done else piece.count, piece.count + len(piece.guesses))
