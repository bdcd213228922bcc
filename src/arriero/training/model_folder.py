"""The model artifact: a Hugging Face folder with its tokenizer beside the weights."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError
from arriero.stage import ModelSpec

if TYPE_CHECKING:
    from arriero.models.config import ModelConfig
    from arriero.tokenization.tokenizer import Tokenizer


def write_model_folder(model: Any, tokenizer: Tokenizer, folder: Path) -> ModelSpec:
    """Write weights (float32), configuration and tokenizer; return the true spec.

    Generation is told to end at the end of the text and at the end of a turn.

    Raises:
        ArrieroError: the disk is full.
    """
    from arriero.models.checkpoint import save_model
    from arriero.models.tensor_files import SINGLE

    ends = list(dict.fromkeys((tokenizer.end_of_turn_id, tokenizer.eos_id)))
    with full_disk_is_an_error(folder):
        save_model(
            model, folder, bos_token_id=tokenizer.bos_id, eos_token_id=ends if len(ends) > 1 else ends[0],
            pad_token_id=tokenizer.pad_id,
        )  # fmt: skip
        tokenizer.save(folder)
    return _spec(model.config, sum(model.parameter_counts().values()), (folder / SINGLE).stat().st_size)


def planned_model_spec(config: ModelConfig) -> ModelSpec:
    """The spec of a model that is not made yet; its file's size is exact."""
    import torch

    from arriero.models.checkpoint import build_model, tensor_entries
    from arriero.models.tensor_files import file_bytes

    with torch.device("meta"):
        model = build_model(config)
    return _spec(config, sum(model.parameter_counts().values()), file_bytes(tensor_entries(model, "float32")))


def _spec(config: ModelConfig, n_parameters: int, weight_bytes: int) -> ModelSpec:
    return ModelSpec(
        config=config.model_dump(mode="json"),
        n_parameters=n_parameters,
        weight_bytes=weight_bytes,
        format="float32",
    )


@contextmanager
def full_disk_is_an_error(folder: Path) -> Iterator[None]:
    """Turn "no space left" while the body runs into one line.

    Raises:
        ArrieroError: no space left on the device, or the quota is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ArrieroError(
            f"no space left to write the model to {folder}; free some and run the same command again: "
            "training goes on from its last checkpoint"
        ) from None
