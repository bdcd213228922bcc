from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arriero.data.pipeline.survivors import cut


@given(text=st.text(alphabet="abc d\n", max_size=40), data=st.data())
def test_cutting_takes_away_just_what_lies_in_a_span(text: str, data: st.DataObject) -> None:
    place = st.integers(0, len(text))
    spans = data.draw(st.lists(st.tuples(place, place).map(lambda pair: (min(pair), max(pair))), max_size=5))
    left = "".join(c for n, c in enumerate(text) if not any(start <= n < end for start, end in spans))
    assert cut(text, spans) == left.strip()
