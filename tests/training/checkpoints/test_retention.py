from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arriero.training.checkpoints.retention import Retention, Saved, ranking

LOSSES = st.one_of(st.none(), st.floats(0, 10))
RUNS = st.dictionaries(st.integers(0, 300), LOSSES, max_size=30).map(
    lambda steps: [Saved(step, loss) for step, loss in steps.items()]
)


def test_the_newest_the_best_and_the_permanent_ones_stay() -> None:
    saved = [Saved(5, 0.1), Saved(10), Saved(15, 0.3), Saved(20, 0.2), Saved(25, 0.4), Saved(30)]
    assert Retention(1).kept(saved) == {30}
    assert Retention(2).kept(saved) == {25, 30}
    assert Retention(1, best=2).kept(saved) == {5, 20, 30}
    assert Retention(1, every=10).kept(saved) == {10, 20, 30}
    assert Retention(1, best=1, every=15).kept(saved) == {5, 15, 30}


@given(RUNS, st.integers(1, 4), st.integers(0, 4), st.integers(0, 40))
def test_what_stays_of_any_run(saved: list[Saved], newest: int, best: int, every: int) -> None:
    rule = Retention(newest, best, every)
    kept = rule.kept(saved)
    steps = sorted(one.step for one in saved)
    assert set(steps[-newest:]) <= kept <= set(steps)
    dropped = [one for one in saved if one.step not in kept]
    assert not any(every and one.step and one.step % every == 0 for one in dropped)
    better = sorted(one.loss for one in saved if one.loss is not None)[:best]
    assert all(
        one.loss is None or (len(better) == best and one.loss >= better[-1]) for one in dropped if best
    )
    assert len(kept) <= newest + best + (len(steps) if every else 0)
    assert rule.kept([one for one in saved if one.step in kept]) == kept, "what stays once, stays"


@given(RUNS)
def test_the_ranking_has_the_lowest_loss_first_and_the_earlier_of_two(saved: list[Saved]) -> None:
    order = [(one.loss, one.step) for one in ranking(saved)]
    assert order == sorted(order) and len(order) == sum(one.loss is not None for one in saved)
