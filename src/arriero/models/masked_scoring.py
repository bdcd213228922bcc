"""Pseudo-log-likelihood of texts under a masked language model (Salazar et al., arXiv 1910.14659).

Each token is masked in turn and scored from all the others, before and after it. The sum is no probability of the text
(the conditionals do not multiply to a joint one): figures made of it are marked "pseudo".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from arriero.models.id_batches import check_ids

if TYPE_CHECKING:
    from arriero.models.encoder import Encoder

TOKENS_PER_BATCH = 4096


def pseudo_logprobs(model: Encoder, sequences: Sequence[Sequence[int]], mask_id: int) -> list[np.ndarray]:
    """Natural-log p(x_t | all other tokens) for t >= 1: float64 [len(ids) - 1] for each sequence.

    The shape is that of ``token_logprobs``: the first token, an encoder's [CLS], has no score. A sequence of T tokens
    costs T - 1 passes.

    Args:
        mask_id: id of the mask token.

    Raises:
        ArrieroError: the model has no masked LM head, a sequence is too long, or an id is outside the vocabulary.
    """
    check_ids([*sequences, [mask_id]], model.config.vocab_size, model.config.longest)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return [_score(model, ids, mask_id) for ids in sequences]
    finally:
        model.train(training)


def _score(model: Encoder, ids: Sequence[int], mask_id: int) -> np.ndarray:
    device = model.embedding.word.weight.device
    row = torch.tensor(list(ids), dtype=torch.int64, device=device)
    places = torch.arange(1, len(ids), device=device)
    parts = []
    for some in places.split(max(1, TOKENS_PER_BATCH // max(len(ids), 1))):
        index = torch.arange(len(some), device=device)
        masked = row.repeat(len(some), 1)
        masked[index, some] = mask_id
        logits = model.word_logits(model.hidden(masked)[index, some]).float()
        chosen = logits.gather(1, row[some, None]).squeeze(1) - logits.logsumexp(1)
        parts.append(chosen.double().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0)
