"""Stage "export": a model for other tools, checked by loading it back."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from arriero.artifacts import Artifact
from arriero.artifacts.commit import write_bytes_atomic
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError, Interrupted
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

    from arriero.compression.export_formats import Format
    from arriero.models.decoder_config import DecoderConfig

RATE = "export.bytes_per_s"
CHECK_ROWS, CHECK_LENGTH = 2, 64
_PROBE_CONFIG: dict[str, Any] = {
    "vocab_size": 4096, "d_model": 256, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "d_ff": 704, "context_length": 64
}  # fmt: skip


class ExportSettings(StageSettings):
    format: Literal["huggingface", "gguf"] = Field(
        default="huggingface", description="a Hugging Face folder, or a GGUF file for llama.cpp"
    )
    dtype: Literal["keep", "float32", "bfloat16", "float16"] = Field(
        default="keep",
        description="of the weights in a folder; keep leaves them as they are, quantised ones too",
    )
    gguf_type: Literal["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"] | None = Field(
        default=None, description="of the matrices in a GGUF file; F16 by default"
    )

    @field_validator("gguf_type", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fit_the_format(self) -> ExportSettings:
        if self.format == "gguf" and self.dtype != "keep":
            raise ValueError("dtype is of Hugging Face folders; set gguf_type for format gguf")
        if self.format != "gguf" and self.gguf_type is not None:
            raise ValueError("gguf_type needs format gguf")
        return self

    def writer(self) -> Format:
        """What writes this format."""
        from arriero.compression.export_formats import GgufExport, HuggingFaceFolder

        if self.format == "gguf":
            return GgufExport(self.gguf_type or "F16")
        return HuggingFaceFolder(None if self.dtype == "keep" else self.dtype)


@register
class Export(Stage[ExportSettings]):
    """Write a model for other tools, with a model card: a Hugging Face folder, or a GGUF file with its tokenizer.

    What is written is loaded back and its logits are compared with the source's on random ids; if they are off, the
    stage fails. In a GGUF file every weight is compared as well. A quantised model stays quantised with format
    huggingface and dtype keep, and becomes a plain one with any other.
    """

    kind: ClassVar[str] = "export"
    version: ClassVar[int] = 2
    makes: ClassVar = "model"
    inputs: ClassVar[dict[str, Input]] = {"model": Input("model", "the model to hand on")}
    help: ClassVar[str] = "Write a model as a checked Hugging Face folder or GGUF file with a model card"
    Settings = ExportSettings

    def plan(self, settings: ExportSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.models.decoder_config import decoder_config

        source: ModelSpec = specs["model"]
        config = decoder_config(source.config, "the model to export")
        writer = settings.writer()
        size, stored = writer.weight_bytes(source, config), writer.stored(source)
        spec = ModelSpec(
            config=source.config, n_parameters=source.n_parameters, weight_bytes=size, format=stored
        )
        return Plan(
            spec=spec,
            estimate=Estimate(
                seconds=_seconds(source, spec, device),
                peak_memory=Quantity.band(
                    # source and copy in float32, both files read
                    device.process_bytes + 8 * source.n_parameters + source.weight_bytes + size,
                    0.4, "B", "modelled", "the source and the folder loaded back, for the comparison",
                ),
                flops=Quantity.exact(_check_flops(config), "FLOP", "modelled", "the two forward passes compared"),
            ),
            notes=_notes(settings.format, config),
        )  # fmt: skip

    def run(self, settings: ExportSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.compression.companions import copy_companions
        from arriero.compression.model_card import model_card, training_licenses

        source: Artifact = inputs["model"]
        writer, stored = (
            settings.writer(),
            settings.writer().stored(ModelSpec.model_validate(source.manifest.spec)),
        )

        def advance(written: int) -> None:
            if context.stop_requested():
                raise Interrupted("stopped while exporting; the same command does this stage again")

        context.progress(0, 3, "steps")
        model = writer.write(source, context.folder, advance)
        copied = copy_companions(source.path, context.folder)
        context.progress(1, 3, "steps")
        writer.check_weights(model, context.folder)
        change = _check(source.path, writer, context.folder, stored, context.seed)
        context.count_flops(_check_flops(model.config))
        context.progress(2, 3, "steps")
        size = writer.written_bytes(context.folder)
        counts = model.parameter_counts()
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

        from arriero.compression.export_formats import HuggingFaceFolder
        from arriero.models.checkpoint import load_decoder, save_model
        from arriero.models.decoder import Decoder
        from arriero.models.decoder_config import DecoderConfig

        model = Decoder(DecoderConfig.model_validate(_PROBE_CONFIG))
        model.init_weights(0)
        writer = HuggingFaceFolder(None)
        with tempfile.TemporaryDirectory() as name:
            source, target = Path(name, "source"), Path(name, "target")
            save_model(model, source)
            started = time.perf_counter()
            save_model(load_decoder(source), target)
            _check(source, writer, target, "float32", 0)
            elapsed = time.perf_counter() - started
            size = writer.written_bytes(source) + writer.written_bytes(target)
        return {RATE: Rate(per_s=size / elapsed, spread=1.0, unit="B")}


def _check(source: Path, writer: Format, folder: Path, stored: str, seed: int) -> float:
    """Largest change of a logit from ``source`` to what was written, relative to the largest logit.

    Raises:
        ArrieroError: it is more than the way of storing explains.
    """
    import torch

    from arriero.models.checkpoint import load_decoder, read_config, read_format
    from arriero.native.linear import exact_products

    config = read_config(source)
    generator = torch.Generator().manual_seed(seed)
    shape = CHECK_ROWS, min(CHECK_LENGTH, config.context_length)
    ids = torch.randint(0, config.vocab_size, shape, generator=generator)
    logits: list[Tensor] = []
    for path in (source, writer.readable(folder)):
        with torch.inference_mode(), exact_products():  # the weights are compared, not how products round
            logits.append(load_decoder(path, dtype="float32")(ids))
    change = ((logits[0] - logits[1]).abs().max() / logits[0].abs().max()).item()
    allowed = writer.allowed_change(stored, read_format(source))
    if not change <= (math.inf if allowed is None else allowed):  # NaN is off, too
        raise ArrieroError(
            f"the exported model gives other logits than its source: off by {change:.2g} of the largest, "
            f"{allowed or math.inf:g} is allowed for {stored}; export it as float32"
        )
    return change


def _notes(format: str, config: DecoderConfig) -> list[str]:
    """What the plan says beside its figures."""
    from arriero.models.families import get_family

    if format == "gguf":
        return ["the tokenizer's part of the GGUF file is not in the bytes"]
    if get_family(config.family).shared:
        return []
    return [f"transformers has no {config.family}: only Arriero reads this folder"]


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
