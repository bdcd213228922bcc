"""Models in Hugging Face folders: ``config.json``, ``model.safetensors``, ``generation_config.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError, did_you_mean
from arriero.models.config import DecoderConfig
from arriero.models.decoder import Decoder
from arriero.models.hf_format import config_from_hf, config_to_hf, hf_tensor, scheme_from_hf, scheme_to_hf
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme, use_quantized_layers
from arriero.models.tensor_files import (
    SINGLE,
    TensorEntry,
    TensorReader,
    file_bytes,
    float_dtype,
    write_tensors,
)

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"

_IGNORED_ENDINGS = ("rotary_emb.inv_freq",)
"""Tensors that old folders hold though they follow from the configuration."""


def read_config(folder: Path) -> DecoderConfig:
    """Shape of the model in ``folder``.

    Raises:
        ArrieroError: no readable ``config.json``, or a model that Arriero does not have.
    """
    return config_from_hf(_read_json(folder / CONFIG), str(folder / CONFIG))


def read_format(folder: Path) -> str:
    """How the weights in ``folder`` are stored: float32, bfloat16, float16, int8 or int4."""
    values = _read_json(folder / CONFIG)
    scheme = scheme_from_hf(values, str(folder / CONFIG))
    return scheme.name if scheme else _stored_dtype(values)


def read_special_ids(folder: Path) -> dict[str, Any]:
    """``bos_token_id``, ``eos_token_id`` and ``pad_token_id`` as far as the folder declares them: arguments for
    :func:`save_model`. ``generation_config.json`` is believed before ``config.json``."""
    declared = _read_json(folder / CONFIG)
    if (folder / GENERATION_CONFIG).is_file():
        declared |= _read_json(folder / GENERATION_CONFIG)
    return {name: declared.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def save_model(
    model: Decoder,
    folder: Path,
    dtype: str = "float32",
    *,
    bos_token_id: int | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
) -> None:
    """Write the model as a Hugging Face folder, tensor by tensor. Tied weights are stored once.

    Args:
        dtype: float32, bfloat16 or float16; for a quantised model that of what is not quantised.
        eos_token_id: one id or several; generation ends at any of them.

    Raises:
        ArrieroError: unknown dtype, or the model holds adapters that were not merged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = tensor_entries(model, dtype)
    ids: dict[str, int | list[int] | None] = {
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id
        if eos_token_id is None or isinstance(eos_token_id, int)
        else [*eos_token_id],
        "pad_token_id": pad_token_id,
    }
    config = config_to_hf(model.config, dtype, ids)
    scheme = model_scheme(model)
    if scheme is not None:
        config["quantization_config"] = scheme_to_hf(scheme)
    write_tensors(folder / SINGLE, entries)
    write_json_atomic(folder / CONFIG, config)
    write_json_atomic(
        folder / GENERATION_CONFIG, {key: value for key, value in ids.items() if value is not None}
    )


def load_model(folder: Path, *, dtype: str | None = None, device: str = "cpu") -> Decoder:
    """Load a decoder from a Hugging Face folder, plain or quantised, in evaluation mode.

    Args:
        dtype: of the weights in memory (quantised codes stay codes); by default as ``config.json`` says.

    Raises:
        ArrieroError: a tensor is missing, extra, of the wrong shape or cut short; or an unknown variant.
    """
    values = _read_json(folder / CONFIG)
    where = str(folder / CONFIG)
    config, scheme = config_from_hf(values, where), scheme_from_hf(values, where)
    target = float_dtype(dtype or _stored_dtype(values))
    with torch.device(device):
        model = Decoder(config)
        if scheme is not None:
            use_quantized_layers(model, scheme)
    model.to(target).eval()
    with TensorReader.of_folder(folder) as reader, torch.no_grad():
        _fill(model, reader, folder)
    return model


def _fill(model: Decoder, reader: TensorReader, folder: Path) -> None:
    wanted = {hf_tensor(name): tensor for name, tensor in model.state_dict().items()}
    found = {name for name in reader.names() if not name.endswith(_IGNORED_ENDINGS)}
    if model.head is None:
        found.discard("lm_head.weight")  # some writers store a tied table twice
    for name in sorted(wanted.keys() - found):
        raise ArrieroError(f"{folder}: tensor {name} is missing{did_you_mean(name, found - wanted.keys())}")
    for name in sorted(found - wanted.keys()):
        raise ArrieroError(f"{folder}: tensor {name} is not part of the model that {CONFIG} describes")
    for name, tensor in wanted.items():
        shape = reader.shape(name)
        if shape != tuple(tensor.shape):
            raise ArrieroError(
                f"{folder}: tensor {name} has shape {list(shape)}, {CONFIG} asks for {list(tensor.shape)}"
            )
    for name, tensor in wanted.items():
        stored = reader.read(name)
        if stored.is_floating_point() != tensor.is_floating_point():
            raise ArrieroError(f"{folder}: tensor {name} is stored as {stored.dtype}, not as {tensor.dtype}")
        if name.endswith("weight_shape") and not torch.equal(stored, tensor.cpu()):
            raise ArrieroError(
                f"{folder}: {name} says {stored.tolist()}, {CONFIG} asks for {tensor.tolist()}"
            )
        tensor.copy_(stored)


def tensor_entries(model: Decoder, dtype: str) -> list[TensorEntry]:
    """What ``save_model`` writes: every tensor by its Hugging Face name; floats in ``dtype``, codes as they are."""
    target = float_dtype(dtype)
    return [
        TensorEntry(
            hf_tensor(name),
            tuple(tensor.shape),
            target if tensor.is_floating_point() else tensor.dtype,
            lambda tensor=tensor: tensor,  # type: ignore[misc]
        )
        for name, tensor in model.state_dict().items()
    ]


def predicted_file_bytes(config: DecoderConfig, dtype: str, scheme: WeightScheme | None = None) -> int:
    """Exact bytes of the weights file that ``save_model`` will write for such a model.

    Raises:
        ArrieroError: the scheme's group size does not fit a layer.
    """
    with torch.device("meta"):
        model = Decoder(config)
        if scheme is not None:
            use_quantized_layers(model, scheme)
    return file_bytes(tensor_entries(model, dtype))


def model_scheme(model: Decoder) -> WeightScheme | None:
    """The scheme of a quantised model, None for a plain one."""
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            return module.scheme
    return None


def _stored_dtype(values: dict[str, Any]) -> str:
    return str(values.get("dtype") or values.get("torch_dtype") or "float32")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArrieroError(f"{path.parent} is no model folder: it has no {path.name}") from None
    except (ValueError, OSError) as error:
        raise ArrieroError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ArrieroError(f"{path} should hold a JSON object")
    return values
