"""Grammars of the engine's requests: compiled beside the steps, waited for by nobody else."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING

from arriero.inference.scheduler import Task

if TYPE_CHECKING:
    from arriero.inference.grammar.compile import CompiledGrammar, GrammarCompiler
    from arriero.inference.grammar.spec import GrammarSpec

PATIENCE = 0.05
"""Seconds that a step waits for a grammar when there is nothing else to do."""


class Constraints:
    """Gives sequences the matchers of their grammars."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self._compiler = compiler
        self._pending: dict[Task, Future[CompiledGrammar]] = {}

    def begin(self, task: Task, spec: GrammarSpec | None) -> None:
        """Hold a sequence back until its grammar is there."""
        if spec is not None:
            task.ready = False
            self._pending[task] = self._compiler.compile(spec)

    def forget(self, task: Task) -> None:
        """The sequence has ended."""
        self._pending.pop(task, None)

    def settle(self, *, patient: bool) -> list[tuple[Task, str]]:
        """Let those go on whose grammars are there; gives those whose grammars are wrong, and why.

        Args:
            patient: wait a moment for one.
        """
        if not self._pending:
            return []
        if patient:
            wait(self._pending.values(), PATIENCE, FIRST_COMPLETED)
        failed = []
        for task, future in list(self._pending.items()):
            if not future.done():
                continue
            del self._pending[task]
            error = future.exception()
            if error is None:
                task.sequence.constraint = future.result().matcher()
                task.ready = True
            else:
                failed.append((task, str(error)))
        return failed
