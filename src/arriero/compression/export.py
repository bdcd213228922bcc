"""Stage "export": a clean Hugging Face folder, checked by loading it back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.artifacts.commit import write_bytes_atomic
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError
from arriero.stage import (
    Context,
    Input,
    Inputs,
    ModelSpec,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

    from arriero.models.decoder_config import DecoderConfig
    from arriero.models.decoder import Decoder

RATE = "export.bytes_per_s"
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}
"""Largest change of a logit that storing the weights in this dtype may bring, relative to the largest logit."""
EXACT = 1e-5
"""The same where the way of storing does not change."""
CHECK_ROWS, CHECK_LENGTH = 2, 64
_PROBE_CONFIG: dict[str, Any] = {
    "vocab_size": 4096, "d_model": 256, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "d_ff": 704, "context_length": 64
}  # fmt: skip


class ExportSettings(StageSettings):
    dtype: Literal["keep", "float32", "bfloat16", "float16"] = Field(
        default="keep", description="of the weights; keep leaves them as they are, quantised ones too"
    )
    format: Literal["hf"] = Field(default="hf", description="hf: a Hugging Face folder")

    def target_dtype(self) -> str | None:
        """The dtype to convert to; None leaves everything as it is stored."""
        return None if self.dtype == "keep" else self.dtype


@register
class Export(Stage[ExportSettings]):
    """Write a model as a Hugging Face folder for other tools, with a model card.

    The folder is loaded back and its logits are compared with the source's on random ids; if they are off, the
    stage fails. A quantised model stays quantised with dtype keep, and becomes a plain one with any other.
    """

    kind: ClassVar[str] = "export"
    version: ClassVar[int] = 1
    makes: ClassVar = "model"
    inputs: ClassVar[dict[str, Input]] = {"model": Input("model", "the model to hand on")}
    help: ClassVar[str] = "Write a model as a checked Hugging Face folder with a model card"
    Settings = ExportSettings

    def plan(self, settings: ExportSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.models.checkpoint import predicted_file_bytes
        from arriero.models.decoder_config import DecoderConfig

        source: ModelSpec = specs["model"]
        config = DecoderConfig.parse(source.config, "the model to export")
        stored = _stored(settings, source)
        size = source.weight_bytes if stored == source.format else predicted_file_bytes(config, stored)
        spec = ModelSpec(
            config=source.config, n_parameters=source.n_parameters, weight_bytes=size, format=stored
        )
        return Plan(
            spec=spec,
            estimate=Estimate(
                seconds=_seconds(source, spec, device),
                peak_memory=Quantity.band(
                    # source and copy in float32, both files mapped
                    device.process_bytes + 8 * source.n_parameters + source.weight_bytes + size,
                    0.4, "B", "modelled", "the source and the folder loaded back, for the comparison",
                ),
                flops=Quantity.exact(_check_flops(config), "FLOP", "modelled", "the two forward passes compared"),
            ),
        )  # fmt: skip

    def run(self, settings: ExportSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.compression.companions import copy_companions
        from arriero.compression.model_card import model_card, training_licenses
        from arriero.models.checkpoint import read_format
        from arriero.models.tensor_files import SINGLE

        source: Artifact = inputs["model"]
        context.progress(0, 3, "steps")
        model = _write(source.path, context.folder, settings.target_dtype())
        copied = copy_companions(source.path, context.folder)
        context.progress(1, 3, "steps")
        change = _check(source.path, context.folder, context.seed)
        context.count_flops(_check_flops(model.config))
        context.progress(2, 3, "steps")
        size = (context.folder / SINGLE).stat().st_size
        counts = model.parameter_counts()
        stored = read_format(context.folder)
        card = model_card(source, model.config, counts, stored, size)
        write_bytes_atomic(context.folder / "README.md", card.encode())
        context.progress(3, 3, "steps")
        spec = ModelSpec(
            config=model.config.model_dump(mode="json"),
            n_parameters=sum(counts.values()),
            weight_bytes=size,
            format=stored,
        )
        facts = {
            "format": settings.format,
            "dtype": stored,
            "largest_logit_change": change,
            "checked_tokens": CHECK_ROWS * min(CHECK_LENGTH, model.config.context_length),
            "parameters_by_part": counts,
            "licences": [record.name for record in training_licenses(source)],
            "copied": copied,
        }
        return Outcome(spec=spec, facts=facts)

    def probe(self) -> dict[str, Rate]:
        import tempfile

        from arriero.models.checkpoint import save_model
        from arriero.models.decoder_config import DecoderConfig
        from arriero.models.decoder import Decoder
        from arriero.models.tensor_files import SINGLE

        model = Decoder(DecoderConfig.model_validate(_PROBE_CONFIG))
        model.init_weights(0)
        with tempfile.TemporaryDirectory() as name:
            source, target = Path(name, "source"), Path(name, "target")
            save_model(model, source)
            started = time.perf_counter()
            _write(source, target, None)
            _check(source, target, 0)
            elapsed = time.perf_counter() - started
            size = (source / SINGLE).stat().st_size + (target / SINGLE).stat().st_size
        return {RATE: Rate(per_s=size / elapsed, spread=1.0, unit="B")}


def _stored(settings: ExportSettings, source: ModelSpec) -> str:
    """How the weights will be stored."""
    return settings.target_dtype() or source.format


def _write(source: Path, target: Path, dtype: str | None) -> Decoder:
    """Load, convert if a dtype is asked for, and write; returns the model that was written."""
    import torch

    from arriero.models.checkpoint import load_decoder, read_special_ids, save_model
    from arriero.models.layers.quantized import use_plain_layers

    if dtype is None:
        model = load_decoder(source)
        dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    else:
        model = load_decoder(source, dtype="float32")
        use_plain_layers(model, torch.float32)
    save_model(model, target, dtype, **read_special_ids(source))
    return model


def _check(source: Path, target: Path, seed: int) -> float:
    """Largest change of a logit from ``source`` to ``target``, relative to the largest logit.

    Raises:
        ArrieroError: it is more than the dtype explains.
    """
    import torch

    from arriero.models.checkpoint import load_decoder, read_config, read_format

    config = read_config(target)
    generator = torch.Generator().manual_seed(seed)
    shape = CHECK_ROWS, min(CHECK_LENGTH, config.context_length)
    ids = torch.randint(0, config.vocab_size, shape, generator=generator)
    logits: list[Tensor] = []
    for folder in (source, target):
        with torch.inference_mode():
            logits.append(load_decoder(folder, dtype="float32")(ids))
    change = ((logits[0] - logits[1]).abs().max() / logits[0].abs().max()).item()
    stored = read_format(target)
    allowed = EXACT if stored == read_format(source) else TOLERANCE[stored]
    if not change <= allowed:  # NaN is off, too
        raise ArrieroError(
            f"the exported folder gives other logits than its source: off by {change:.2g} of the largest, "
            f"{allowed:g} is allowed for {stored}; export it as float32"
        )
    return change


def _check_flops(config: DecoderConfig) -> float:
    """Arithmetic of the comparison, traced: two passes."""
    import torch

    from arriero.cost.trace import trace
    from arriero.models.decoder import Decoder

    def make() -> list[Any]:
        return [
            Decoder(config),
            torch.zeros(CHECK_ROWS, min(CHECK_LENGTH, config.context_length), dtype=torch.int64),
        ]

    def run(state: list[Any]) -> None:
        with torch.inference_mode():
            state[0](state[1])

    return 2 * trace(make, run).flops


def _seconds(source: ModelSpec, made: ModelSpec, device: DeviceProfile) -> Quantity:
    from arriero.compression.companions import FOLDER_SECONDS

    rate = device.rate(RATE)
    if rate is None:
        return Quantity.unknown("s", f"rate {RATE} was not measured; run `arriero calibrate`")
    return Quantity.band(
        FOLDER_SECONDS + (source.weight_bytes + made.weight_bytes) / rate.per_s,
        rate.spread,
        "s",
        "modelled",
        "measured rate of exporting",
    )
