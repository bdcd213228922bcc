"""Low-rank adapters (Hu et al., arXiv 2106.09685), written in PEFT's format."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError, did_you_mean
from arriero.models.decoder import Decoder
from arriero.models.families import get_family
from arriero.models.hf_names import hf_module
from arriero.models.layers.linear import Linear
from arriero.models.tensor_files import TensorEntry, write_tensors
from arriero.products import linear

ALL_LINEAR = "all-linear"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


class LoRALinear(nn.Module):
    """``base(x) + scale * dropout(x) A^T B^T`` with scale = alpha / rank; the base is frozen.

    ``lora_A`` [rank, in] and ``lora_B`` [out, rank] are float32 whatever the base's dtype.
    """

    def __init__(
        self, base: Linear, rank: int, alpha: float, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.base, self.rank, self.alpha, self.dropout = base, rank, alpha, dropout
        self.enabled = True
        device = base.weight.device
        # kaiming uniform with a = sqrt(5): bound = sqrt(6 / ((1 + 5) fan_in)); drawn on the CPU for equal bits anywhere
        bound = 1 / math.sqrt(base.in_features)
        drawn = torch.empty(rank, base.in_features, device="cpu").uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(drawn.to(device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        self.train(base.training)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        result: Tensor = self.base(x)
        if not self.enabled:
            return result
        inner = F.dropout(x, self.dropout, self.training) if self.dropout else x
        low = linear(linear(inner.to(self.lora_A.dtype), self.lora_A), self.lora_B)
        return result + (low * self.scale).to(result.dtype)

    @torch.no_grad()
    def merged(self) -> Linear:
        """The base layer with the adapter added to its weight; the sum is taken in float32."""
        update = (self.lora_B.float() @ self.lora_A.float()) * self.scale
        self.base.weight.copy_(self.base.weight.float() + update)
        return self.base


def apply_lora(
    model: Decoder, rank: int, alpha: float, dropout: float, targets: Sequence[str] | str, seed: int
) -> list[nn.Parameter]:
    """Freeze the model and put an adapter on every linear layer named in ``targets``; at first they change nothing.

    Args:
        targets: layer names such as ``["q_proj", "v_proj"]``, or ``"all-linear"`` (all in the blocks, not the head).
        seed: of the draw of A; B is zero.

    Returns:
        The trainable parameters, A and B of each adapted layer, in the model's order.

    Raises:
        ArrieroError: no such layer, a rank below 1, or adapters are there already.
    """
    names = resolve_targets(targets)
    if rank < 1:
        raise ArrieroError(f"the rank of an adapter must be at least 1, not {rank}")
    if adapters(model):
        raise ArrieroError("the model has adapters already; merge them before adding others")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if name in names and isinstance(module, Linear):
            setattr(model.get_submodule(parent), name, LoRALinear(module, rank, alpha, dropout, generator))
    found = adapters(model)
    if not found:
        raise ArrieroError(
            "no layer takes an adapter: the model is quantised; adapt the unquantised model instead"
        )
    return [parameter for layer in found.values() for parameter in (layer.lora_A, layer.lora_B)]


def resolve_targets(targets: Sequence[str] | str) -> list[str]:
    """Layer names of a setting: ``"all-linear"``, one name, several with commas, or a list.

    Raises:
        ArrieroError: a name that no layer of the decoder has.
    """
    names = targets.split(",") if isinstance(targets, str) else list(targets)
    names = [name.strip() for name in names]
    if names == [ALL_LINEAR]:
        return list(TARGETS)
    for name in names:
        if name not in TARGETS:
            raise ArrieroError(
                f"no layer to adapt is called '{name}'{did_you_mean(name, (*TARGETS, ALL_LINEAR))}"
            )
    return [name for name in TARGETS if name in names]


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """The adapted layers by their place in the model."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALinear)}


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Within, the model computes as if it had no adapters (the reference of DPO). May be nested."""
    before = [(layer, layer.enabled) for layer in adapters(model).values()]
    for layer, _ in before:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, enabled in before:
            layer.enabled = enabled


def merge_lora(model: Decoder) -> None:
    """Add every adapter to the weight it sits on (in float32) and take it out; all weights are trainable again."""
    for path, layer in adapters(model).items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, layer.merged())
    model.requires_grad_(True)


def lora_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors by place in the model: ``<layer>.lora_A`` [rank, in], ``<layer>.lora_B`` [out, rank]."""
    state: dict[str, Tensor] = {}
    for path, layer in adapters(model).items():
        state[f"{path}.lora_A"] = layer.lora_A.detach()
        state[f"{path}.lora_B"] = layer.lora_B.detach()
    return state


def _entry(model: Decoder, name: str, tensor: Tensor) -> TensorEntry:
    path, _, matrix = name.rpartition(".")
    theirs = hf_module(get_family(model.config.family), model.config, path)
    full = f"base_model.model.{theirs}.{matrix}.weight"
    return TensorEntry(full, tuple(tensor.shape), tensor.dtype, lambda: tensor)


def save_adapter(model: Decoder, folder: Path, base_model: str = "") -> None:
    """Write the adapters as PEFT does: ``adapter_model.safetensors`` and ``adapter_config.json``.

    Args:
        base_model: where the unadapted model lies, for whoever loads the adapter.

    Raises:
        ArrieroError: the model has no adapters.
    """
    found = adapters(model)
    if not found:
        raise ArrieroError("the model has no adapters to save")
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(
        folder / ADAPTER_WEIGHTS, [_entry(model, name, t) for name, t in lora_state_dict(model).items()]
    )
    layer = next(iter(found.values()))
    present = {path.rpartition(".")[2] for path in found}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": layer.rank,
        "lora_alpha": layer.alpha,
        "lora_dropout": layer.dropout,
        "target_modules": [name for name in TARGETS if name in present],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
    }
    write_json_atomic(folder / ADAPTER_CONFIG, config)
