"""Answering questions with a model: seconds to the first token and for each one after, streams, memory, bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from arriero.cost.cut import Cut
from arriero.cost.memory import MemoryByKind, serving_memory
from arriero.cost.time import Coefficients, decode_seconds, prefill_seconds
from arriero.cost.workload import Workload
from arriero.planning.counts.subject import Held
from arriero.planning.serving.trial import ServingTrial

MOST_STREAMS = 1 << 20


@dataclass(frozen=True)
class Service:
    """One copy of a model that answers.

    Attributes:
        workload: a forward pass through the model as it is held. tensor: devices that one copy is cut over.
        prompt, answer: tokens. batch: answers written at a time by this copy.
        capacity: bytes of a device, or None. runtime: most bytes of a process beside its tensors.
        trial: what real steps of this shape took on this machine; it goes before the formula. held: how its weights are.
    """

    workload: Workload
    coefficients: Coefficients
    tensor: int
    prompt: int
    answer: int
    batch: int
    capacity: float | None
    runtime: float
    trial: ServingTrial | None = None
    held: Held = "bf16"

    @property
    def context(self) -> int:
        """Tokens of a finished answer with its prompt."""
        return self.prompt + self.answer

    @property
    def basis(self) -> Coefficients:
        """What the times rest on: the coefficients, with a trial's own band where there was one."""
        return self.coefficients if self.trial is None else self.trial.told_by(self.coefficients)

    def first_token(self, batch: int = 1) -> float:
        """Seconds from the arrival of ``batch`` prompts to their first tokens."""
        if self.trial is not None:
            return self.trial.prefill(self.prompt, batch)
        return float(
            prefill_seconds(
                self.workload,
                tokens=self.prompt,
                batch=batch,
                coefficients=self.coefficients,
                tensor=self.tensor,
            )
        )

    def token(self, batch: int | None = None) -> float:
        """Seconds of a step that gives each of ``batch`` answers a token, half-way through them."""
        streams, kept = self.batch if batch is None else batch, self.prompt + self.answer / 2
        if self.trial is not None:
            return self.trial.decode(kept, streams)
        return float(
            decode_seconds(
                self.workload, context=kept, batch=streams,  # type: ignore[arg-type]
                coefficients=self.coefficients, tensor=self.tensor,
            )
        )  # fmt: skip

    def memory(self, batch: int | None = None) -> MemoryByKind:
        """Of one device, when all answers are at their ends."""
        streams = self.batch if batch is None else batch
        return serving_memory(self.workload, Cut(tensor=self.tensor), sequences=streams, context=self.context)

    def fits(self, batch: int) -> bool:
        """Whether so many answers fit at once, at the upper end of the memory."""
        return self.capacity is None or float(self.memory(batch).high) + self.runtime <= self.capacity

    def streams_in_memory(self) -> int | None:
        """Most answers that fit at once; None where the capacity is unknown."""
        return None if self.capacity is None else most(self.fits)

    def streams_at(self, speed: float) -> int | None:
        """Most answers at once of which each still gets ``speed`` tokens a second; None where that is unknown."""
        return None if self.token(1) != self.token(1) else most(lambda batch: self.token(batch) * speed <= 1)

    def bounds(self, batch: int | None = None) -> dict[str, float]:
        """Seconds that each of the three would take alone in a step: weights and kept values read, arithmetic done."""
        streams = self.batch if batch is None else batch
        stream = self.coefficients.stream
        keys = self.workload.kv_token * (self.prompt + self.answer / 2)
        return {
            "weights": self._read() * stream,
            "keys and values": streams * keys / self.tensor * stream,
            "arithmetic": streams * self._arithmetic(),
        }

    def crossover(self) -> float:
        """Answers at once from which on arithmetic takes longer than reading the weights."""
        once = self._arithmetic()
        return self._read() * self.coefficients.of("elementwise") / once if once else float("inf")

    def _read(self) -> float:
        held = self.workload.parameters
        return held.weight_bytes * (1 - held.looked_up / max(held.total, 1)) / self.tensor

    def _arithmetic(self) -> float:
        """Seconds of the products for one token."""
        work, per = self.workload, self.coefficients
        block = work.forward_block * work.dimensions.n_layers
        return (
            (block.products * per.of("products") + work.forward.head * per.of("head"))
            / work.context
            / self.tensor
        )


def most(holds: Callable[[int], bool]) -> int:
    """The largest number up to about a million for which ``holds`` is true; it holds for all below the largest."""
    if not holds(1):
        return 0
    low, high = 1, 2
    while high <= MOST_STREAMS and holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
