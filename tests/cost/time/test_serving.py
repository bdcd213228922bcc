from __future__ import annotations

import numpy as np
import pytest
from tests.cost.time.examples import a_workload, coefficients

from arriero.cost.hardware import find
from arriero.cost.time import decode_seconds, prefill_seconds, prior
from arriero.cost.time.coefficients import datasheet
from arriero.cost.time.shapes import Shape, workload_of_shape
from arriero.cost.workload import Workload


def llama8(context: int = 2048) -> Workload:
    shape = Shape(4096, 32, 32, 128_256, n_kv_heads=8, d_ff=14_336, gated=True, tied=False)
    return workload_of_shape(shape, context, name="llama-3-8b")


def test_one_answer_reads_every_weight_but_the_looked_up() -> None:
    work = llama8()
    found = decode_seconds(work, context=0, coefficients=coefficients(optimizer=1e-12), captured=True)
    assert float(found) == pytest.approx((work.parameters.total - 128_256 * 4096) * 2 * 1e-12)


def test_keys_are_read_for_every_answer_and_weights_once() -> None:
    """128 KiB a token: Llama-3-8B, 2 x 32 layers x 8 heads x 128 x 2 bytes."""
    per = coefficients(optimizer=1e-12)
    one, many = (float(decode_seconds(llama8(), context=4096, batch=b, coefficients=per)) for b in (1, 33))
    assert many - one == pytest.approx(32 * 4096 * 131_072 * 1e-12)


def test_large_batches_are_bound_by_arithmetic() -> None:
    work, per = llama8(), coefficients(optimizer=1e-15, products=1e-15, head=1e-15)
    found = float(decode_seconds(work, context=0, batch=64, coefficients=per))
    assert found == pytest.approx(64 * 2 * (work.parameters.total - 128_256 * 4096) * 1e-15)


def test_weights_stop_being_the_bound_at_the_textbooks_batch() -> None:
    """B* = rate x bytes a weight / (2 x bandwidth)."""
    per, work = datasheet(find("H100")), llama8()
    crossing = per.stream * 2 / (2 * per.of("products"))
    batches = np.arange(1, 600)
    step = np.asarray(decode_seconds(work, context=0, batch=batches, coefficients=per, captured=True))
    flat = np.diff(step) < 0.2 * np.diff(step)[-1]
    assert batches[1:][~flat][0] == pytest.approx(crossing, rel=0.05)


def test_prefill_is_the_forward_pass_with_one_position_of_the_head() -> None:
    work, per = a_workload(), coefficients(products=1e-12, attention=3e-12, head=1e-12)
    found = float(prefill_seconds(work, tokens=1024, batch=2, coefficients=per))
    blocks = 2 * 8 * (2 * work.forward_block.products + 3 * 4 * work.forward_block.attention)
    assert found == pytest.approx((blocks + 2 * 2 * 256 * 1000) * 1e-12)


def test_the_context_that_a_workload_was_counted_at_does_not_matter() -> None:
    per = prior(find("H200"))
    for length in (128, 4096):
        short, long = (
            prefill_seconds(llama8(context), tokens=length, coefficients=per) for context in (512, 8192)
        )
        assert float(short) == pytest.approx(float(long))
        short, long = (
            decode_seconds(llama8(context), context=length, coefficients=per) for context in (512, 8192)
        )
        assert float(short) == pytest.approx(float(long))


def test_more_devices_are_faster_and_talk() -> None:
    per, work = prior(find("H100")), llama8()
    parts = np.array([1, 2, 4, 8])
    steps = np.asarray(
        decode_seconds(work, context=8192, batch=64, coefficients=per, tensor=parts, captured=True)
    )
    assert (np.diff(steps) < 0).all()
    assert steps[3] > steps[0] / 8
    firsts = np.asarray(prefill_seconds(work, tokens=8192, coefficients=per, tensor=parts, captured=True))
    assert (np.diff(firsts) < 0).all()


def test_launching_is_spared_by_a_captured_graph() -> None:
    per = coefficients(launch=1e-3, optimizer=1e-15)
    eager = float(decode_seconds(llama8(), context=1, coefficients=per))
    assert eager == pytest.approx(32e-3, rel=1e-3)
    assert float(decode_seconds(llama8(), context=1, coefficients=per, captured=True)) < 1e-4


def test_an_unknown_device_has_unknown_seconds() -> None:
    assert np.isnan(float(decode_seconds(llama8(), context=8, coefficients=datasheet(find("V100")))))
