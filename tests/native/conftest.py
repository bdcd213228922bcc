from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from arriero.native import library


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Native products take torch's number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def native() -> None:
    """The test needs the library."""
    if not library.available():
        pytest.skip(library.why_not())


@pytest.fixture(params=library.LEVELS)
def level(request: pytest.FixtureRequest, native: None) -> Iterator[str]:
    """Each level that this processor has, in use for the test."""
    before = library.level()
    wanted: str = request.param
    if library.set_level(wanted) != wanted:
        library.set_level(before)
        pytest.skip(f"this processor has no {wanted}")
    yield wanted
    library.set_level(before)
