"""Whether guessing ahead pays, by a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from arriero.inference.speculative.pays import LONGEST_REST, Pays, Rate


class World:
    """Steps of an engine with known costs and chances, on a clock of its own."""

    def __init__(self, chance: float, per_row: float, seed: int = 0, draft: float = 0.0) -> None:
        self.chance, self.per_row, self.draft = chance, per_row, draft
        self.rng = np.random.default_rng(seed)
        self.pays = Pays()
        self.seconds = 0.0
        self.tokens = 0
        self.guessed: list[int] = []

    def step(self, answers: int = 1) -> None:
        pays, proposer, own = self.pays, "draft" if self.draft else "prompt", Rate()
        lengths = [0] * answers
        if pays.wanted(answers):
            chance = pays.chance(proposer, 4, own)  # type: ignore[arg-type]
            lengths = pays.plan([(chance, pays.most, proposer)] * answers)  # type: ignore[list-item]
        gained = 0
        for length in lengths:
            right = 0
            while right < length and self.rng.random() < self.chance:
                right += 1
            pays.note_guess(proposer, 4, length, right)  # type: ignore[arg-type]
            gained += 1 + right
        rows, depth = answers + sum(lengths), max(lengths)
        seconds = 1.0 + self.per_row * rows + self.draft * depth
        pays.note_step(answers, rows, gained, seconds, draft_seconds=self.draft * depth, depth=depth)
        self.seconds += seconds
        self.tokens += gained
        self.guessed.append(sum(lengths))

    def run(self, steps: int, answers: int = 1) -> float:
        """Speed-up over plain steps."""
        self.seconds, self.tokens, self.guessed = 0.0, 0, []
        for _ in range(steps):
            self.step(answers)
        return self.tokens / self.seconds * (1 + self.per_row * answers) / answers


def best_speed_up(chance: float, per_row: float, answers: int, draft: float = 0.0) -> float:
    """By a constant length, over plain steps."""

    def speed(k: int) -> float:
        tokens = answers * sum(chance**i for i in range(k + 1))
        return tokens / (1 + per_row * answers * (k + 1) + draft * k)

    return max(speed(k) for k in range(9)) / speed(0)


@pytest.mark.parametrize("answers", [1, 4, 16])
@pytest.mark.parametrize("chance", [0.05, 0.4, 0.7, 0.95])
@pytest.mark.parametrize(("per_row", "draft"), [(0.01, 0.0), (0.2, 0.0), (0.02, 0.1), (0.02, 1.5)])
def test_it_finds_what_pays(answers: int, chance: float, per_row: float, draft: float) -> None:
    world = World(chance, per_row, draft=draft)
    world.run(600, answers)
    best = best_speed_up(chance, per_row, answers, draft)
    reached = world.run(1500, answers)
    assert reached > 0.97
    assert reached > 1 + 0.75 * (best - 1) - 0.06
    if best <= 1:
        assert np.mean([g > 0 for g in world.guessed]) < 0.06


def test_it_switches_itself_off_tries_again_seldom_and_finds_out_when_things_change() -> None:
    world = World(chance=0.02, per_row=0.3)
    world.run(5000)
    tries = np.flatnonzero(np.array(world.guessed) > 0)
    assert len(tries) < 0.05 * 5000
    gaps = [b - a for a, b in pairwise(tries.tolist()) if b - a > 20]
    assert gaps == sorted(gaps)  # ever longer
    world.chance, world.per_row = 0.9, 0.01
    world.run(LONGEST_REST + 600)
    assert world.run(500) > 2
    assert world.pays.accepted <= world.pays.proposed


def test_a_step_that_was_held_up_once_does_not_decide() -> None:
    world = World(0.9, 0.01)
    world.run(400)
    world.pays.note_step(1, 1, 1, 500.0)
    world.pays.note_step(1, 5, 4, 500.0)
    world.run(200)
    assert world.run(300) > 2


def test_step_costs_lie_on_lines_between_readings() -> None:
    costs = Pays().costs
    costs.add(1, 1.0)
    assert costs.reach == 2
    assert costs.seconds(9) == 1.0  # nothing is known against trying
    costs.add(9, 5.0)
    assert costs.seconds(np.array([1, 3, 9, 20])).tolist() == [1.0, 2.0, 5.0, 5.0]
