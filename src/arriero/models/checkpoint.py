"""Models on disk: Hugging Face folders in and out, other projects' files in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError, did_you_mean
from arriero.models.config import ModelConfig
from arriero.models.decoder import Decoder
from arriero.models.families import get_family
from arriero.models.foreign import open_foreign
from arriero.models.hf_config import config_from_hf, config_to_hf
from arriero.models.hf_names import StoredTensor, stored_tensors, without_prefix
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme, use_quantized_layers
from arriero.models.protocol import LanguageModel
from arriero.models.quantization_config import scheme_from_hf, scheme_to_hf
from arriero.models.renamed_tensors import RenamedTensors, twins_among
from arriero.models.tensor_files import TensorEntry, file_bytes, float_dtype, shards, write_shards
from arriero.models.tensor_reader import TensorReader

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
NGRAM = "ngram.json"
SHARD_BYTES = 5_000_000_000
"""Largest weights file that is written; more goes into shards."""


class Weights(Protocol):
    """Tensors by their Hugging Face names, from wherever they lie."""

    def names(self) -> set[str]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def dtype(self, name: str) -> torch.dtype: ...
    def read(self, name: str) -> Tensor: ...
    def read_into(self, name: str, out: Tensor) -> None: ...


def build_model(config: ModelConfig) -> Any:
    """The network of a configuration, of whatever family; its weights are whatever memory holds.

    Draw them with ``init_weights(seed)``, or load them. Under ``torch.device("meta")`` it takes no memory.
    """
    return get_family(config.family).build(config)


def read_config(path: Path) -> Any:
    """Configuration of the model in a folder (or a GGUF or llama2.c file); a subclass of ``ModelConfig``.

    Raises:
        ArrieroError: no readable ``config.json``, or a model that Arriero does not have.
    """
    return config_from_hf(*_config_values(path))


def parse_config(values: dict[str, Any], where: str) -> Any:
    """A configuration from what ``model_dump()`` gave, by its ``family``.

    Raises:
        ArrieroError: unknown family, or values that do not fit.
    """
    return get_family(values.get("family", "llama")).config.parse(values, where)


def read_format(path: Path) -> str:
    """How the weights are stored: float32, bfloat16, float16, int8 or int4."""
    values, where = _config_values(path)
    scheme = scheme_from_hf(values, where)
    return scheme.name if scheme else _stored_dtype(values)


def read_special_ids(path: Path) -> dict[str, Any]:
    """``bos_token_id``, ``eos_token_id`` and ``pad_token_id`` as far as the folder declares them: arguments for
    :func:`save_model`. ``generation_config.json`` is believed before ``config.json``."""
    declared, _ = _config_values(path)
    if (path / GENERATION_CONFIG).is_file():
        declared |= _read_json(path / GENERATION_CONFIG)
    return {name: declared.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def save_model(
    model: Any,
    folder: Path,
    dtype: str = "float32",
    *,
    bos_token_id: int | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the model as a Hugging Face folder, tensor by tensor. Tied weights are stored once.

    Args:
        dtype: float32, bfloat16 or float16; for a quantised model that of what is not quantised.
        eos_token_id: one id or several; generation ends at any of them.
        shard_bytes: larger models are written in several files with an index.

    Raises:
        ArrieroError: unknown dtype, a model that its family's files cannot hold, or adapters that were not merged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    several = None if eos_token_id is None or isinstance(eos_token_id, int) else [*eos_token_id]
    ids = {
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id if several is None else several,
        "pad_token_id": pad_token_id,
    }
    config = config_to_hf(model.config, dtype, ids)
    entries = tensor_entries(model, dtype)
    scheme = model_scheme(model)
    if scheme is not None:
        config["quantization_config"] = scheme_to_hf(scheme)
    write_shards(folder, entries, shard_bytes)
    write_json_atomic(folder / CONFIG, config)
    generation = {key: value for key, value in ids.items() if value is not None}
    if "decoder_start_token_id" in config:  # an encoder-decoder knows itself what it starts and ends with
        generation |= {key: config[key] for key in ("decoder_start_token_id", "eos_token_id", "pad_token_id")}
    write_json_atomic(folder / GENERATION_CONFIG, generation)


def load_model(path: Path, *, dtype: str | None = None, device: str = "cpu") -> Any:
    """Load a network of any family, plain or quantised, in evaluation mode.

    Tensors go one by one straight to their places: the peak of memory is the model and a few megabytes.

    Args:
        path: a Hugging Face folder, a GGUF file, a folder in Meta's original layout, or a llama2.c file.
        dtype: of the weights in memory (quantised codes stay codes); by default as the files have it.

    Raises:
        ArrieroError: a tensor is missing, extra, of the wrong shape or cut short; or an unknown variant.
    """
    foreign = open_foreign(path)
    if foreign is not None:
        with foreign as source:
            values = source.hf_config()
            return _load(values, (str(path), str(path)), source, dtype, device)
    values, where = _config_values(path)
    with TensorReader.of_folder(path) as reader:
        return _load(values, (where, str(path)), reader, dtype, device)


def load_decoder(path: Path, *, dtype: str | None = None, device: str = "cpu") -> Decoder:
    """:func:`load_model`, for those who need a decoder.

    Raises:
        ArrieroError: the model is of another kind.
    """
    family = get_family(read_config(path).family)
    if family.network != "arriero.models.decoder:Decoder":
        raise ArrieroError(
            f"{path} holds a model of the family {family.name}; this needs a decoder (GPT, Llama ...)"
        )
    model: Decoder = load_model(path, dtype=dtype, device=device)
    return model


def load_language_model(path: Path) -> LanguageModel:
    """Whatever gives probabilities of texts: an n-gram or a network of any family.

    Raises:
        ArrieroError: the folder holds no model.
    """
    from arriero.models.ngram import NGram

    if (path / NGRAM).is_file():
        return NGram.load(path)
    model: LanguageModel = load_model(path)
    return model


def _load(
    values: dict[str, Any], told: tuple[str, str], weights: Weights, dtype: str | None, device: str
) -> Any:
    """``told``: where the configuration and where the weights lie, for messages."""
    where, weights_at = told
    config, scheme = config_from_hf(values, where), scheme_from_hf(values, where)
    family = get_family(config.family)
    weights = RenamedTensors(weights, family.renamed, family.twins)
    config = family.settle(config, weights.names())
    target = float_dtype(dtype or _stored_dtype(values))
    default = torch.get_default_dtype()
    torch.set_default_dtype(target)  # so that no weight is ever held in a wider dtype
    try:
        with torch.device(device):
            model = build_model(config)
            if scheme is not None:
                use_quantized_layers(model, scheme)
    finally:
        torch.set_default_dtype(default)
    model.to(target).eval()
    with torch.no_grad():
        _fill(model, weights, weights_at)
    return model


def _fill(model: Any, weights: Weights, where: str) -> None:
    family, state = get_family(model.config.family), model.state_dict()
    wanted = {stored.name: stored for stored in stored_tensors(family, model.config, state)}
    if without_prefix(weights.names(), family.prefix):
        wanted = {name.removeprefix(family.prefix + "."): stored for name, stored in wanted.items()}
    found = {name for name in weights.names() if name in wanted or not name.endswith(family.ignored)}
    wanted = {name: stored for name, stored in wanted.items() if name in found or name not in family.optional}
    if getattr(model.config, "tie_embeddings", False):
        tied = family.heads_of(model.config).get("head")
        found.discard(f"{tied}.weight")  # some writers store a tied table twice
    for name in sorted(wanted.keys() - found):
        raise ArrieroError(f"{where}: tensor {name} is missing{did_you_mean(name, found - wanted.keys())}")
    for name in sorted(found - wanted.keys()):
        raise ArrieroError(
            f"{where}: tensor {name} is not part of the model that its configuration describes"
        )
    for name, stored in wanted.items():
        if weights.shape(name) != stored.shape:
            raise ArrieroError(
                f"{where}: tensor {name} has shape {list(weights.shape(name))}, "
                f"its configuration asks for {list(stored.shape)}"
            )
    for name, stored in wanted.items():
        _place(weights, name, stored, state, where)


def _place(weights: Weights, name: str, stored: StoredTensor, state: dict[str, Tensor], where: str) -> None:
    """Read one tensor of the file to where it belongs in the model."""
    first, kind = state[stored.ours[0]], weights.dtype(name)
    if kind.is_floating_point != first.is_floating_point():
        raise ArrieroError(f"{where}: tensor {name} is stored as {kind}, not as {first.dtype}")
    if name.endswith("weight_shape") and not torch.equal(weights.read(name), first.cpu()):
        raise ArrieroError(
            f"{where}: {name} says {weights.read(name).tolist()}, the layer asks for {first.tolist()}"
        )
    if stored.direct:
        weights.read_into(name, first)
        return
    for ours, part in zip(stored.ours, stored.split(weights.read(name)), strict=True):
        state[ours].copy_(part)


def tensor_entries(model: Any, dtype: str) -> list[TensorEntry]:
    """What ``save_model`` writes: every tensor by its Hugging Face name; floats in ``dtype``, codes as they are."""
    target = float_dtype(dtype)
    family, state = get_family(model.config.family), model.state_dict()
    whole = {stored.name: stored for stored in stored_tensors(family, model.config, state)}
    for name, twin in twins_among(whole, family.twins):
        whole[name] = replace(whole[twin], name=name)
    return [
        TensorEntry(
            stored.name,
            stored.shape,
            target if state[stored.ours[0]].is_floating_point() else state[stored.ours[0]].dtype,
            lambda stored=stored: stored.join([state[name] for name in stored.ours]),  # type: ignore[misc]
        )
        for stored in whole.values()
    ]


def predicted_file_bytes(config: ModelConfig, dtype: str, scheme: WeightScheme | None = None) -> int:
    """Exact bytes of the weights files that ``save_model`` will write for such a model.

    Raises:
        ArrieroError: the scheme's group size does not fit a layer.
    """
    with torch.device("meta"):
        model = build_model(config)
        if scheme is not None:
            use_quantized_layers(model, scheme)
    return sum(file_bytes(group) for group in shards(tensor_entries(model, dtype), SHARD_BYTES).values())


def model_scheme(model: nn.Module) -> WeightScheme | None:
    """The scheme of a quantised model, None for a plain one."""
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            return module.scheme
    return None


def _config_values(path: Path) -> tuple[dict[str, Any], str]:
    """What ``config.json`` says, or would say if the file were a Hugging Face folder; and where that stands."""
    foreign = open_foreign(path)
    if foreign is not None:
        with foreign as source:
            return source.hf_config(), str(path)
    if (path / NGRAM).is_file():
        raise ArrieroError(f"{path} holds an n-gram, which has no network; `evaluate` and `compare` score it")
    return _read_json(path / CONFIG), str(path / CONFIG)


def _stored_dtype(values: dict[str, Any]) -> str:
    return str(values.get("dtype") or values.get("torch_dtype") or "float32")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArrieroError(f"{path.parent} is no model folder: it has no {path.name}") from None
    except (ValueError, OSError) as error:
        raise ArrieroError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ArrieroError(f"{path} should hold a JSON object")
    return values
