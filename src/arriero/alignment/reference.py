"""The reference of DPO: log-probabilities of all answers under the starting weights, worked out once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from arriero.artifacts.commit import write_bytes_atomic
from arriero.errors import Interrupted
from arriero.models.decoder import Decoder
from arriero.stage import Context
from arriero.training.batches import micro_batches
from arriero.training.loop import FlopCount
from arriero.training.micro_batch import micro_batch_size
from arriero.training.objectives.dpo import Pair, answer_log_probs, pair_batch, pair_length
from arriero.training.precision import Arithmetic, autocast, use_threads
from arriero.training.settings import TrainSettings
from arriero.tuning.lora import adapters_disabled


def reference_log_probs(
    model: Decoder,
    pairs: Sequence[Pair],
    settings: TrainSettings,
    arithmetic: Arithmetic,
    context: Context,
    flops: FlopCount | None = None,
) -> torch.Tensor:
    """fp32 [n, 2]: summed log-probability of the chosen and of the rejected answer of each pair.

    Worked out with adapters off, and in the precision of the run, so that the first loss is ln 2. Kept in
    ``context.state`` under the hash of weights, rows and precision: anything else is never taken for it.

    Raises:
        Interrupted: the user asked to stop; the work starts anew at the next run.
    """
    path = context.state / f"reference-{_key(model, pairs, arithmetic)}.safetensors"
    kept = _read(path)
    if kept is not None:
        return kept
    result = torch.zeros(len(pairs), 2)
    done = 0
    tokens = sum(len(pair.chosen.ids) + len(pair.rejected.ids) for pair in pairs) / max(1, len(pairs))
    longest = max(map(pair_length, pairs), default=0)
    parts = micro_batches(
        range(len(pairs)), micro_batch_size(settings, tokens), lambda i: pair_length(pairs[i])
    )
    model.eval()
    with use_threads(arithmetic.threads), torch.no_grad(), adapters_disabled(model):
        for part in parts:
            if context.stop_requested():
                raise Interrupted(
                    "stopped while working out the reference; the same command starts that again"
                )
            batch = pair_batch([pairs[i] for i in part], torch.zeros(2 * len(part)), longest)
            with autocast(arithmetic.precision):
                result[part] = answer_log_probs(model, batch).view(2, -1).t()
            if flops is not None:
                context.count_flops(flops.evaluation(batch))
            done += len(part)
            context.progress(done, len(pairs), "pairs", of="reference")
    write_bytes_atomic(path, save({"log_probs": result}))
    return result


def _key(model: Decoder, pairs: Sequence[Pair], arithmetic: Arithmetic) -> str:
    """Hex SHA-256 of the starting weights, the rows and the precision."""
    digest = hashlib.sha256(arithmetic.precision.encode())
    for name, tensor in sorted(model.state_dict().items()):
        if "lora_" not in name:
            digest.update(name.encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for pair in pairs:
        for row in (pair.chosen, pair.rejected):
            digest.update(len(row.ids).to_bytes(8, "little"))
            digest.update(row.ids.tobytes())
            digest.update(row.mask.tobytes())
    return digest.hexdigest()


def _read(path: Path) -> torch.Tensor | None:
    """What was kept, or None when there is nothing or it was cut short."""
    try:
        return load_file(path)["log_probs"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
