"""How the measures tell how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arriero.errors import Interrupted
from arriero.stage import Context

Progress = Callable[[Sequence[int]], None]
"""Is told the lengths of the rows that were scored, after every batch."""


def silent(lengths: Sequence[int]) -> None:
    """Nobody is listening."""


def stop_if_asked(context: Context) -> None:
    """
    Raises:
        Interrupted: the user asked to stop; results so far are in the cache.
    """
    if context.stop_requested():
        raise Interrupted("stopped while scoring; what has been scored so far is kept")


class Counter:
    """Counts scored tokens over all models, against the total."""

    def __init__(self, context: Context, total: int) -> None:
        self._context, self._total, self._done = context, total, 0

    def skip(self, tokens: int) -> None:
        """Tokens that an earlier attempt scored."""
        self._done += tokens

    def show(self, model: str, measure: str) -> None:
        """Tell the user what is being done, and how much of all is done."""
        self._context.progress(
            self._done, max(self._total, self._done), "tokens", model=model, measure=measure
        )

    def of(self, model: str, measure: str, flops: Callable[[int], float] | None = None) -> Progress:
        """A listener for one model on one measure; ``flops`` is what a row of so many tokens takes."""

        def tell(lengths: Sequence[int]) -> None:
            self._done += sum(lengths)
            if flops is not None:
                self._context.count_flops(sum(map(flops, lengths)))
            self._context.progress(
                self._done, max(self._total, self._done), "tokens", model=model, measure=measure
            )
            stop_if_asked(self._context)

        return tell
