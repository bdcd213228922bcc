"""Packed rows: attention never crosses documents, whichever way it is worked out."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.attention import attend
from arriero.models.layers.documents import LEAST_TOKENS, Documents, FirstKeys
from arriero.models.layers.masks import segment_mask

LENGTH = 192


def model(positions: str) -> Decoder:
    config = DecoderConfig(
        vocab_size=61, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=48, context_length=LENGTH,
        positions=positions,
    )  # fmt: skip
    made = Decoder(config)
    made.init_weights(0)
    return made.eval()


MODELS = {name: model(name) for name in ("rotary", "learned", "none", "alibi")}


def rows_of(cuts: list[list[int]]) -> torch.Tensor:
    """Segment numbers [B, T] of rows that are cut there."""
    index = torch.arange(LENGTH)
    return torch.stack(
        [sum(((index >= cut).long() for cut in row), torch.zeros(LENGTH).long()) for row in cuts]
    )


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.lists(st.lists(st.integers(1, LENGTH - 1), max_size=9), min_size=1, max_size=3),
    name=st.sampled_from(sorted(MODELS)),
)
def test_a_packed_row_is_its_documents_one_by_one(cuts: list[list[int]], name: str) -> None:
    segments = rows_of(cuts)
    ids = torch.randint(0, 61, segments.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        packed = MODELS[name].hidden(ids, segments=segments)
        for row, row_cuts in enumerate(cuts):
            edges = [0, *sorted(set(row_cuts)), LENGTH]
            for start, stop in itertools.pairwise(edges):
                alone = MODELS[name].hidden(ids[row : row + 1, start:stop])[0]
                torch.testing.assert_close(packed[row, start:stop], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_documents_do_what_their_mask_does(causal: bool) -> None:
    segments = rows_of([[50], [90, 140]])
    documents = Documents.of(segments)
    assert documents == Documents((50, 142, 90, 50, 52))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, h, LENGTH, 8, generator=generator, dtype=torch.float64).requires_grad_()
        for h in (4, 2, 2)
    )
    mask = segment_mask(segments, torch.float64)
    if not causal:
        same = segments.unsqueeze(2) == segments.unsqueeze(1)
        mask = torch.zeros(same.shape, dtype=torch.float64).masked_fill(~same, -torch.inf).unsqueeze(1)
    found, wanted = attend(q, k, v, documents, causal), attend(q, k, v, mask, causal)
    torch.testing.assert_close(found, wanted)
    gradient = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(found, [q, k, v], gradient),
        torch.autograd.grad(wanted, [q, k, v], gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_a_number_that_comes_back_needs_a_mask() -> None:
    segments = rows_of([[50, 100]])
    segments[segments == 2] = 0
    assert Documents.of(segments) is None


def test_many_tiny_documents_keep_their_mask() -> None:
    assert Documents.of(torch.arange(LENGTH)[None] // (LEAST_TOKENS // 2)) is None


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.lists(st.lists(st.integers(1, LENGTH - 1), max_size=9), min_size=1, max_size=3),
    wide=st.booleans(),
)
def test_first_keys_do_what_their_mask_does(cuts: list[list[int]], wide: bool) -> None:
    """In bfloat16 (natively, where the processor has it) and where a mask must be made of them."""
    segments = rows_of(cuts)
    first = FirstKeys.of(segments)
    assert first is not None
    dtype = torch.float64 if wide else torch.bfloat16
    assert torch.equal(first.mask(dtype), segment_mask(segments, dtype))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(len(cuts), h, LENGTH, 16, generator=generator).to(dtype).requires_grad_()
        for h in (4, 2, 2)
    )
    found, wanted = attend(q, k, v, first), attend(q, k, v, segment_mask(segments, dtype))
    gradient = torch.randn(found.shape, generator=generator).to(dtype)
    both = [[out, *torch.autograd.grad(out, [q, k, v], gradient)] for out in (found, wanted)]
    for a, b in zip(*both, strict=True):
        assert (a - b).norm() <= (1e-9 if wide else 0.01) * b.norm()


def test_first_keys_of_numbers_that_do_not_come_back() -> None:
    assert FirstKeys.of(torch.tensor([[0, 0, 1, 0]])) is None
    assert FirstKeys.of(torch.tensor([[3, 3, -1], [3, 4, 4]])).first.tolist() == [[0, 0, 2], [0, 1, 1]]  # type: ignore[union-attr]


def test_short_rows_in_bfloat16_are_packed_the_same_way_with_and_without_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = DecoderConfig(
        vocab_size=61, d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=48, context_length=LENGTH
    )
    made = Decoder(config)
    made.init_weights(0)
    segments = rows_of([[50, 60], [90]])
    ids = torch.randint(0, 61, segments.shape, generator=torch.Generator().manual_seed(0))

    def step() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            out = made.hidden(ids, segments=segments)
        out.float().square().sum().backward()
        found = [p.grad for p in made.parameters() if p.grad is not None]
        made.zero_grad()
        return [out.detach(), *found]

    native = step()
    monkeypatch.setenv("ARRIERO_NATIVE", "0")
    for a, b in zip(native, step(), strict=True):
        assert (a - b).norm() <= 0.03 * b.norm()
