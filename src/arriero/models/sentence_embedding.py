"""One vector per text from an encoder: pooling, normalising, and folders of sentence-transformers (arXiv 1908.10084)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError, did_you_mean
from arriero.models.id_batches import check_ids, id_batches

if TYPE_CHECKING:
    from arriero.models.encoder import Encoder

MODULES = "modules.json"
POOLING = "1_Pooling"

_POOLING_KEYS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "last": "pooling_mode_lasttoken",
}
"""Our pooling -> sentence-transformers' key in 1_Pooling/config.json."""
POOLINGS = tuple(_POOLING_KEYS)


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Vectors of the tokens [B, T, d] and their mask [B, T] -> vectors of the sequences [B, d].

    Args:
        pooling: ``mean`` or ``max`` over the tokens, or ``cls``, the first token's, or ``last``, the last one's.

    Raises:
        ArrieroError: another kind of pooling.
    """
    if pooling not in _POOLING_KEYS:
        raise ArrieroError(f"unknown pooling '{pooling}'{did_you_mean(pooling, _POOLING_KEYS)}")
    if pooling == "cls":
        return hidden[:, 0]
    keep = mask.bool().unsqueeze(2)
    if pooling == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        return hidden[torch.arange(len(hidden), device=mask.device), (places * mask.bool()).argmax(1)]
    if pooling == "max":
        return hidden.masked_fill(~keep, torch.finfo(hidden.dtype).min).amax(1)
    return (hidden * keep).sum(1) / keep.sum(1).clamp(min=1)


def embed(
    model: Encoder, sequences: Sequence[Sequence[int]], *, pooling: str = "mean", normalise: bool = True
) -> np.ndarray:
    """Vectors of sequences of ids (special tokens included): float32 [N, d_model], in the order given.

    Args:
        normalise: to length 1, so that a dot product is the cosine.

    Raises:
        ArrieroError: a sequence is empty or too long, has an id outside the vocabulary, or the pooling is unknown.
    """
    vectors = np.zeros((len(sequences), model.config.d_model), dtype=np.float32)
    for batch, outputs, mask in _outputs(model, sequences, head=False):
        pooled = pool(outputs.float(), mask, pooling)
        vectors[batch] = (F.normalize(pooled, dim=1) if normalise else pooled).cpu().numpy()
    return vectors


def classify(model: Encoder, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Probabilities from a classifier's head: float32 [n_labels] per sequence, or [T, n_labels] for token classes.

    Multi-label classes are independent (sigmoid); a regression's figures are given as they are.

    Raises:
        ArrieroError: the model has no classifier, or a sequence does not fit it.
    """
    config = model.config
    if config.task not in ("sequence_classification", "token_classification"):
        raise ArrieroError(f"a model for task '{config.task}' has no classifier")
    results = [np.zeros(0, np.float32) for _ in sequences]
    for batch, outputs, _ in _outputs(model, sequences, head=True):
        values = probabilities(outputs.float(), config.problem, config.n_labels, config.task).cpu().numpy()
        for row, index in enumerate(batch):
            whole = config.task == "sequence_classification"
            results[index] = values[row] if whole else values[row, : len(sequences[index])].copy()
    return results


def probabilities(logits: Tensor, problem: str | None, n_labels: int, task: str) -> Tensor:
    """Logits [..., n_labels] as :func:`classify` gives them: probabilities, or a regression's figures as they are."""
    if task == "sequence_classification":
        if problem == "regression" or (problem is None and n_labels == 1):
            return logits
        if problem == "multi_label_classification":
            return logits.sigmoid()
    return logits.softmax(-1)


def _outputs(model: Encoder, sequences: Sequence[Sequence[int]], head: bool) -> Any:
    """Batches of (indices, the model's or its body's output, mask [B, T]), without gradients, in evaluation mode."""
    check_ids(sequences, model.config.vocab_size, model.config.longest)
    device = model.embedding.word.weight.device
    training = model.training
    model.eval()
    try:
        for batch, ids, mask in id_batches(sequences, model.config.pad_id or 0):
            ids, mask = ids.to(device), mask.to(device)
            with torch.inference_mode():
                run = model if head else model.hidden
                yield batch, run(ids, attention_mask=mask), mask
    finally:
        model.train(training)


@dataclass(frozen=True)
class SentenceEmbedder:
    """An encoder with its pooling, as a sentence-transformers folder describes it."""

    model: Encoder
    pooling: str = "mean"
    normalise: bool = True
    longest: int | None = None
    """Tokens of a sequence that are read; what is beyond is cut off."""

    def __call__(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Sequences of ids -> float32 [N, d_model]; see :func:`embed`."""
        cut = [ids if self.longest is None else ids[: self.longest] for ids in sequences]
        return embed(self.model, cut, pooling=self.pooling, normalise=self.normalise)


def load_embedder(folder: Path) -> SentenceEmbedder:
    """Load a sentence-transformers folder, or a plain encoder folder (then mean pooling, normalised).

    Raises:
        ArrieroError: no encoder, or a module that Arriero does not have.
    """
    from arriero.models.checkpoint import load_model
    from arriero.models.encoder import Encoder

    model = load_model(folder)
    if not isinstance(model, Encoder):
        raise ArrieroError(f"{folder} holds a {model.config.family} model, which is no encoder")
    return SentenceEmbedder(model, *read_pooling(folder))


def read_pooling(folder: Path) -> tuple[str, bool, int | None]:
    """Pooling, normalising and longest text of a sentence-transformers folder; of another ("mean", True, None).

    Raises:
        ArrieroError: a module that Arriero does not have.
    """
    if not (folder / MODULES).is_file():
        return "mean", True, None
    modules = _read(folder / MODULES)
    pooling, normalise = "mean", False
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            pooling = _read_pooling(folder / str(module.get("path", POOLING)) / "config.json")
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise ArrieroError(f"{folder / MODULES}: module '{kind}' is not one that Arriero has")
    settings = folder / "sentence_bert_config.json"
    longest = _read(settings).get("max_seq_length") if settings.is_file() else None
    return pooling, normalise, longest


def save_embedder_files(embedder: SentenceEmbedder, folder: Path) -> None:
    """Write what makes a model folder one of sentence-transformers'; the model itself is ``save_model``'s."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if embedder.normalise else [])]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    write_json_atomic(folder / MODULES, modules)
    (folder / POOLING).mkdir(parents=True, exist_ok=True)
    modes = {key: ours == embedder.pooling for ours, key in _POOLING_KEYS.items()}
    write_json_atomic(
        folder / POOLING / "config.json",
        {"word_embedding_dimension": embedder.model.config.d_model, **modes},
    )
    if embedder.longest is not None:
        settings = {"max_seq_length": embedder.longest, "do_lower_case": False}
        write_json_atomic(folder / "sentence_bert_config.json", settings)


def _read_pooling(path: Path) -> str:
    values = _read(path)
    chosen = [key for key, value in values.items() if key.startswith("pooling_mode_") and value is True]
    ours = [name for name, key in _POOLING_KEYS.items() if chosen == [key]]
    if not ours:
        raise ArrieroError(f"{path}: pooling {', '.join(chosen) or 'of no kind'} is not one that Arriero has")
    return ours[0]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArrieroError(f"{path} cannot be read: {error}") from None
