"""Steps on an NVIDIA GPU: the model's own modules with paged attention, low-bit products and recorded steps."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.inference.kv_pool import KVPool
from arriero.inference.rows import Rows, check_rows
from arriero.models.decoder import Decoder

if TYPE_CHECKING:
    from arriero.inference.adapters import AdapterStore
    from arriero.inference.cuda.graphs import Capture, Inputs

_log = logging.getLogger("arriero.inference")
_LEAST_CAPABILITY = (8, 0)


def why_no_runner(model: Decoder, pool: KVPool) -> str | None:
    """Why there can be no CUDA runner; None where there can."""
    return why_not_here(torch.device(pool.shape.device)) or why_not(model)


def why_not_here(device: torch.device) -> str | None:
    """Why the kernels cannot run on a device. On a processor they run under Triton's interpreter alone."""
    if device.type not in ("cuda", "cpu"):
        return f"the model is on {device.type}, not on an NVIDIA GPU"
    if importlib.util.find_spec("triton") is None:
        return "the package triton, which compiles its kernels, is not installed"
    import triton

    if device.type == "cpu":
        return (
            None if triton.knobs.runtime.interpret else "the model is on the processor, not on an NVIDIA GPU"
        )
    if torch.version.hip is not None:
        return "its kernels were written for NVIDIA's GPUs, and this is torch for AMD's"
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return f"its kernels need compute capability 8.0 or more; {name} has {capability[0]}.{capability[1]}"
    return None


def why_not(model: Decoder) -> str | None:
    """Why a model cannot be computed here; None where it can."""
    if not isinstance(model, Decoder):
        return "it is no decoder of ours"
    config = model.config
    if config.positions == "relative":
        return "relative positions have no paged attention"
    if config.rope_scaling is not None and config.rope_scaling.kind == "dynamic":
        return "rotary angles that follow the length of each sequence take its sequences one at a time"
    return None


class CudaRunner:
    """Runs rows through a decoder on one GPU.

    Steps in which all answers take one token are recorded as CUDA graphs and replayed; others run operation by operation.
    Attention of single rows and small groups of rows goes through a paged kernel, that of prompts through torch's
    FlashAttention or what it has for the case. int4 and int8 weights are read as codes.

    A row's bits may depend on the number of rows beside it: cuBLAS chooses its order of summation by the shape.

    Args:
        float8: the blocks' plain products in float8; needs Hopper and bfloat16 weights. Their weights are kept twice.
        capture: records a step; by default as a CUDA graph on a GPU, not at all on a processor.

    Raises:
        ArrieroError: the model or the machine is not for this runner; the message says why.
    """

    name = "cuda"
    batch_invariant = False

    def __init__(
        self,
        model: Decoder,
        pool: KVPool,
        adapters: AdapterStore | None = None,
        *,
        float8: bool = False,
        capture: Capture | None = None,
    ) -> None:
        reason = why_no_runner(model, pool)
        if reason is not None:
            raise ArrieroError(f"the CUDA runner cannot take this model: {reason}")
        from arriero.inference.cuda import fp8
        from arriero.inference.cuda.graphs import CudaCapture, DecodeGraphs
        from arriero.inference.cuda.places import part_of
        from arriero.inference.cuda.products import ReplacedProducts

        self.model, self.pool, self.adapters = model, pool, adapters
        self._device = torch.device(pool.shape.device)
        if float8 and (reason := fp8.why_not(self._device, model.embedding.weight.dtype)) is not None:
            raise ArrieroError(reason)
        self._part = part_of(model.config.context_length)
        self._products = ReplacedProducts(model, float8)
        if float8 and not len(self._products):
            raise ArrieroError(
                "float8 is for plain weights whose sides are multiples of 16; this model has none"
            )
        with self._on_device():
            if capture is None and self._device.type == "cuda":
                capture = CudaCapture()
        self.graphs: DecodeGraphs | None = None
        if capture is not None:
            context = model.config.context_length
            self.graphs = DecodeGraphs(self._recorded_step, capture, context, self._part, pool.shape.device)

    @torch.inference_mode()
    def run(self, rows: Rows) -> Tensor:
        """See :class:`~arriero.inference.rows.Runner`."""
        check_rows(rows, self.model.config.vocab_size, self.model.config.context_length)
        with self._on_device():
            if self.graphs is not None and self.graphs.takes(rows):
                from arriero.inference.cuda.graphs import CaptureError

                try:
                    return self.graphs.run(rows)
                except CaptureError as error:
                    _log.warning("steps are not recorded from here on: %s", error)
                    self.graphs = None
            return self._run(rows)

    def refresh(self) -> None:
        """Read the model's weights again after they have changed."""
        self._products.refresh()
        if self.graphs is not None:
            self.graphs.clear()

    def _run(self, rows: Rows) -> Tensor:
        from arriero.inference.cuda.caches import PagedAttention

        ids, positions = torch.tensor([[rows.ids], [rows.positions]], dtype=torch.int64).to(self._device)
        with ExitStack() as stack:
            stack.enter_context(self._products)
            if self.adapters is not None:
                names = [span.adapter for span in rows.spans for _ in range(span.count)]
                stack.enter_context(self.adapters.active(names))
            cache = PagedAttention(self.pool, rows, self._part)
            hidden = self.model.hidden(ids, positions=positions, cache=cache)[0]
        if len(rows.wanted) < len(rows):
            hidden = hidden[torch.tensor(rows.wanted, dtype=torch.int64, device=self._device)]
        return self.model.logits(hidden).float()

    def _recorded_step(self, inputs: Inputs) -> Tensor:
        from arriero.inference.cuda.caches import GraphAttention

        with self._products:
            cache = GraphAttention(self.pool, inputs.places())
            hidden = self.model.hidden(inputs.ids, positions=inputs.positions, cache=cache)[0]
        return self.model.logits(hidden).float()

    def _on_device(self) -> AbstractContextManager[object]:
        """Triton launches on the current device."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
