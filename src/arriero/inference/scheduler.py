"""Who runs: places for sequences, shares of a step, and what happens when the pool is full."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Literal

from arriero.inference.kv_pool import BLOCK, blocks_of
from arriero.inference.prefix_cache import PrefixCache
from arriero.inference.sequence import Sequence

Reserve = Literal["all", "grow"]
"""What a sequence is given when it starts: places for prompt and whole answer, or for the prompt, more as it grows."""


@dataclass(eq=False)
class Task:
    """A sequence and its place in the pool.

    Attributes:
        number: order of arrival. salt: keeps its blocks apart from those of other weights.
        stored: its first tokens whose keys and values are in its blocks. kept: blocks that the prefix cache has seen,
            the last of which is ``node``.
        leader: the sequence with the same prompt that reads it for both; None: it reads for itself.
        followers: those whose leader it is. ready: it may have a place (its grammar is there).
        cached: tokens of its prompt that were not computed again. started, counted: whether it has had a place, and
            whether its prompt is in the counters.
    """

    number: int
    sequence: Sequence
    salt: bytes = b""
    adapter: str | None = None
    blocks: list[int] = field(default_factory=list)
    stored: int = 0
    kept: int = 0
    node: int = 0
    cached: int = 0
    leader: Task | None = None
    followers: list[Task] = field(default_factory=list)
    ready: bool = True
    started: bool = False
    counted: bool = False

    @property
    def length(self) -> int:
        """Tokens so far, stored or not."""
        return len(self.sequence.ids)

    @property
    def pending(self) -> int:
        """Tokens that must be run before the next one can be chosen."""
        return self.length - self.stored

    @property
    def fresh(self) -> bool:
        """Whether all of its prompt must be computed, because its log-probabilities are asked for."""
        return self.sequence.wants_prompt_logits

    @property
    def answering(self) -> bool:
        """Whether it takes a token at every step, all before it being stored."""
        return self.pending == 1 and self.length > self.sequence.prompt_length


@dataclass(eq=False)
class Piece:
    """A sequence's share of a step: its next ``count`` tokens, and guesses behind them."""

    task: Task
    count: int
    guesses: list[int] = field(default_factory=list)


class Scheduler:
    """Gives sequences places and steps.

    Places are given in the order of arrival; one that does not fit is never overtaken. A step holds one token of each
    running answer first, then prompts: half of what is left goes to the oldest, the other half to the shortest, so that
    neither a long prompt nor a stream of short ones holds up the other; what one cannot use, the other gets.

    With ``reserve="grow"`` (the default) a sequence takes blocks as its answer grows. When there are none left, the
    youngest gives its place up and is computed again later, where the prefix cache mostly still has it. Answers
    are nearly always shorter than their limit, so reserving the limit leaves most of the pool unused: many more run at a
    time this way. ``reserve="all"`` never computes anything twice.

    Args:
        max_batch: most sequences that run. token_budget: most tokens of a step; at least one for each that runs, so it
            bounds their number too.
        prompt_rows: most prompt tokens of a step whose log-probabilities are asked for, which bounds their memory.
    """

    def __init__(
        self, cache: PrefixCache, max_batch: int, token_budget: int, reserve: Reserve, prompt_rows: int
    ) -> None:
        self.cache = cache
        self.token_budget = token_budget
        self.max_running = min(max_batch, token_budget)
        self.reserve: Reserve = reserve
        self.prompt_rows = prompt_rows
        self.waiting: list[Task] = []
        self.running: list[Task] = []
        self.preemptions = 0

    # ------------------------------------------------------------ in and out

    def add(self, task: Task) -> None:
        """Queue a sequence in its order of arrival."""
        insort(self.waiting, task, key=lambda t: t.number)

    def remove(self, task: Task) -> None:
        """End a sequence wherever it is, and give its blocks back."""
        (self.running if task in self.running else self.waiting).remove(task)
        self._release(task)
        for follower in task.followers:
            follower.leader = None
        task.followers = []
        if task.leader is not None:
            task.leader.followers.remove(task)

    def _release(self, task: Task) -> None:
        self.cache.release(task.blocks)
        task.blocks, task.stored, task.kept = [], 0, 0

    def admit(self) -> None:
        """Give waiting sequences a place while there is room."""
        for task in list(self.waiting):
            if len(self.running) >= self.max_running:
                return
            if task.leader is not None or not task.ready:
                continue
            if not self._place(task):
                return
            self.waiting.remove(task)
            insort(self.running, task, key=lambda t: t.number)

    def _place(self, task: Task) -> bool:
        """Blocks for what the sequence starts with; a spare one is left for those that run."""
        wanted = blocks_of(self._wanted(task))
        if task.fresh:
            shared, node = list[int](), self.cache.root(task.salt)
        else:
            shared, node = self.cache.match(task.sequence.ids, task.salt)
        spare = 1 if self.running and self.reserve == "grow" else 0
        more = None
        if wanted - len(shared) + spare <= self.cache.available:
            more = self.cache.allocate(wanted - len(shared), shared[-1] if shared else None)
        if more is None:
            self.cache.release(shared)
            return False
        task.blocks, task.node = shared + more, node
        task.kept, task.stored = len(shared), len(shared) * BLOCK
        if not task.started:
            task.started, task.cached = True, min(task.stored, task.sequence.prompt_length)
        return True

    def _wanted(self, task: Task) -> int:
        """Token places that the sequence starts with."""
        return task.sequence.reserved if self.reserve == "all" else task.length

    def fork(self, leader: Task) -> list[Task]:
        """Start those whose prompt ``leader`` has just read: they share its full blocks and copy the last one.

        Those for whom there is no room read the prompt themselves later.
        """
        forked, followers, leader.followers = [], leader.followers, []
        for task in followers:
            task.leader = None
            if task.ready and len(self.running) < self.max_running and self._copy_place(leader, task):
                self.waiting.remove(task)
                insort(self.running, task, key=lambda t: t.number)
                forked.append(task)
        return forked

    def _copy_place(self, leader: Task, task: Task) -> bool:
        full = leader.stored // BLOCK
        own = self.cache.allocate(max(blocks_of(self._wanted(task)), blocks_of(leader.stored)) - full)
        if own is None:
            return False
        shared = leader.blocks[:full]
        self.cache.pool.share(shared)
        if leader.stored % BLOCK:
            self.cache.pool.copy(leader.blocks[full], own[0])
        task.blocks, task.node, task.kept, task.stored = shared + own, leader.node, leader.kept, leader.stored
        task.started, task.cached = True, leader.stored
        return True

    # ------------------------------------------------------------ the step

    def plan(self) -> list[Piece]:
        """The sequences of the next step and how many tokens each of them runs."""
        self.admit()
        pieces = []
        for task in list(self.running):  # the oldest first: whoever is preempted for it is younger
            if task in self.running and task.answering and self._room_for(task, task.length):
                pieces.append(Piece(task, 1))
        left = self.token_budget - len(pieces)
        return pieces + self._prompts([t for t in self.running if not t.answering], left)

    def add_guesses(self, piece: Piece, guesses: list[int], budget: int) -> None:
        """Put guesses behind a running answer's token, as many as the budget and the free blocks allow."""
        task = piece.task
        count = min(len(guesses), budget)
        more = blocks_of(task.length + count) - len(task.blocks)
        while count and more > 0 and not self._extend(task, more):
            count -= 1
            more = blocks_of(task.length + count) - len(task.blocks)
        piece.guesses = guesses[:count]

    def _prompts(self, tasks: list[Task], left: int) -> list[Piece]:
        if not tasks or left <= 0:
            return []
        counts = dict.fromkeys(tasks, 0)
        scored = self.prompt_rows
        shortest = sorted(tasks[1:], key=lambda t: t.pending)
        # the oldest up to half, then the others, then the oldest again with what they leave
        for task, limit in [(tasks[0], -(-left // 2)), *((t, left) for t in shortest), (tasks[0], left)]:
            more = min(task.pending - counts[task], left, limit)
            if task.fresh:
                more = min(more, scored)
                scored -= more
            counts[task] += more
            left -= more
        return [Piece(task, count) for task, count in counts.items() if count]

    def _room_for(self, task: Task, tokens: int) -> bool:
        """Blocks for ``tokens`` tokens; the youngest lose theirs where it takes that, and ``task`` when it is the one."""
        more = blocks_of(tokens) - len(task.blocks)
        while more > 0 and not self._extend(task, more):
            youngest = self.running[-1]
            self.preempt(youngest)
            if youngest is task:
                return False
        return True

    def _extend(self, task: Task, more: int) -> bool:
        found = self.cache.allocate(more, task.blocks[-1] if task.blocks else None)
        if found is None:
            return False
        task.blocks += found
        return True

    def preempt(self, task: Task) -> None:
        """Take a sequence's place away; its tokens are run again when it gets another."""
        self.running.remove(task)
        self._release(task)
        self.add(task)
        self.preemptions += 1

    def stored(self, task: Task, count: int) -> None:
        """Note that ``count`` more of the sequence's tokens are in the pool; full blocks go to the prefix cache."""
        task.stored += count
        while (task.kept + 1) * BLOCK <= task.stored:
            tokens = task.sequence.ids[task.kept * BLOCK : (task.kept + 1) * BLOCK]
            task.node, task.blocks[task.kept] = self.cache.insert(task.node, tokens, task.blocks[task.kept])
            task.kept += 1
