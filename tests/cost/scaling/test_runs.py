"""Tables of runs: names of columns, tokens from FLOP, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arriero.cost.scaling.runs import Runs, read_runs
from arriero.errors import ArrieroError


def write(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(text)
    return path


def test_columns_by_any_of_their_names(tmp_path: Path) -> None:
    found = read_runs(
        write(tmp_path, "Name,N,other,D,Loss\nsmall,1e5,x,2e6,4.5\nlarge, 1000000 ,y,4e6,3.9\n")
    )
    assert found.names == ("small", "large") and found.parameters.tolist() == [1e5, 1e6]
    assert found.tokens.tolist() == [2e6, 4e6] and found.losses.tolist() == [4.5, 3.9]
    assert found.flops.tolist() == [1.2e12, 2.4e13] and len(found) == 2


def test_tokens_from_flops(tmp_path: Path) -> None:
    found = read_runs(write(tmp_path, "Model Size,Training FLOP,loss\n1e9,6e19,3\n"))
    assert found.tokens.tolist() == [1e10] and found.names == ("line 2",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no runs"), ("parameters,tokens,loss\n", "no runs"),
        ("parameters,loss\n1,2\n", "no column 'tokens' .or 'flops'."),
        ("tokens,loss\n1,2\n", "no column 'parameters'"), ("parameters,tokens\n1,2\n", "no column 'loss'"),
        ("parameters,tokens,loss\n1,2,x\n", ":2: loss should be a number, not 'x'"),
        ("parameters,tokens,loss\n1,2,3\n1,-2,3\n", ":3: tokens should be above 0"),
        ("parameters,tokens,loss\n1,2,nan\n", ":2: loss should be above 0"),
        ("parameters,n,tokens,loss\n1,1,2,3\n", "both mean parameters"), ("parameters,tokens,loss\n1,2\n", ":2: loss"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ArrieroError, match=told) as error:
        read_runs(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_unreadable_files_and_uneven_columns(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="could not be read"):
        read_runs(tmp_path / "none.csv")
    with pytest.raises(ArrieroError, match="as many sizes"):
        Runs(np.ones(2), np.ones(3), np.ones(2))
    with pytest.raises(ArrieroError, match="run 'b': loss should be above 0"):
        Runs.of([(1, 1, 1), (1, 1, 0)], ["a", "b"])
    some = Runs.of([(1, 1, 1), (2, 2, 2), (3, 3, 3)], ["a", "b", "c"]).only(np.array([True, False, True]))
    assert some.names == ("a", "c") and some.losses.tolist() == [1, 3]
