"""Stage "quantize": weights in 8 or 4 bits, in a folder that transformers and vLLM load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from arriero.artifacts import Artifact
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
    from arriero.models.decoder_config import DecoderConfig
    from arriero.models.layers.quantized import WeightScheme

RATE = "quantize.params_per_s"
DEFAULT_GROUPS = (64, 32)
_BITS = {"int8": 8, "int4": 4}
_PROBE_SHAPE = (512, 2048)
_BLOCK_BYTES = 6 * 4 * (1 << 20)
"""Tensors of one block of the clip search that live at once: six in float32."""


class QuantizeSettings(StageSettings):
    scheme: Literal["int8", "int4"] = Field(
        default="int8",
        description="int8 with a scale per output channel, or int4 with a scale per group of inputs",
    )
    group_size: Literal[32, 64, 128] | None = Field(
        default=None,
        description="int4 only: inputs that share a scale; by default 64, or 32 where 64 does not divide the layers",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="bfloat16", description="of the scales and of what is not quantised: embeddings, norms, head"
    )

    @field_validator("group_size")
    @classmethod
    def _groups_are_for_int4(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("scheme") == "int8":
            raise ValueError("int8 has one scale per output channel; leave group_size out or use scheme int4")
        return value

    def weight_scheme(self, config: DecoderConfig) -> WeightScheme:
        """The scheme in the terms of the layers of such a model."""
        from arriero.models.layers.quantized import WeightScheme

        inputs = (config.d_model, config.n_heads * config.head_dim, config.d_ff)
        fitting = next(
            (size for size in DEFAULT_GROUPS if not any(n % size for n in inputs)), DEFAULT_GROUPS[0]
        )
        group = (self.group_size or fitting) if self.scheme == "int4" else None
        return WeightScheme(_BITS[self.scheme], group)


@register
class Quantize(Stage[QuantizeSettings]):
    """Make a model smaller by rounding the weights of its linear layers to 8 or 4 bits.

    Weight-only, symmetric, round-to-nearest; for each scale the clip with the least squared error is searched, so no
    data are needed. Embeddings, norms and the head keep their precision. The result is written in the
    compressed-tensors format "pack-quantized", which transformers and vLLM load.
    """

    kind: ClassVar[str] = "quantize"
    version: ClassVar[int] = 1
    makes: ClassVar = "model"
    inputs: ClassVar[dict[str, Input]] = {
        "model": Input("model", "the model whose weights are to be rounded")
    }
    help: ClassVar[str] = "Round a model's weights to 8 or 4 bits"
    Settings = QuantizeSettings

    def plan(self, settings: QuantizeSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.models.decoder_config import decoder_config

        source: ModelSpec = specs["model"]
        _refuse_quantised(source)
        spec = _spec(settings, decoder_config(source.config, "the model to quantise"), source.n_parameters)
        return Plan(
            spec=spec,
            estimate=Estimate(
                seconds=_seconds(source, spec, device),
                peak_memory=Quantity.band(
                    # the model in float32, the mapped source file, the packed result, a block of the search
                    device.process_bytes + 4 * source.n_parameters + source.weight_bytes + spec.weight_bytes + _BLOCK_BYTES,
                    0.3, "B", "modelled", "model, source file, result and one block of the search",
                ),
                flops=Quantity.exact(0.0, "FLOP", "modelled", "rounding is element-wise, which is not counted"),
            ),
            notes=["weights are rounded without data; the loss of quality is for `evaluate` to measure"],
        )  # fmt: skip

    def run(self, settings: QuantizeSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.compression.companions import copy_companions
        from arriero.compression.rounding import quantize_model
        from arriero.models.checkpoint import load_decoder, read_special_ids, save_model
        from arriero.models.tensor_files import SINGLE, float_dtype

        source: Artifact = inputs["model"]
        source_spec = ModelSpec.model_validate(source.manifest.spec)
        _refuse_quantised(source_spec)
        model = load_decoder(source.path, dtype="float32")
        scheme = settings.weight_scheme(model.config)

        def each(done: int, total: int) -> None:
            context.progress(done, total, "weights")
            if context.stop_requested():
                raise Interrupted("stopped while quantising; the same command does this stage again")

        errors = quantize_model(model, scheme, float_dtype(settings.dtype), each)
        save_model(model, context.folder, settings.dtype, **read_special_ids(source.path))
        copied = copy_companions(source.path, context.folder)
        after = (context.folder / SINGLE).stat().st_size
        n_parameters = sum(model.parameter_counts().values())
        spec = _spec(settings, model.config, n_parameters).model_copy(update={"weight_bytes": after})
        facts: dict[str, Any] = {
            "scheme": settings.scheme,
            "group_size": scheme.group_size,
            "bytes_before": source_spec.weight_bytes,
            "bytes_after": after,
            "smaller_by": round(source_spec.weight_bytes / after, 3),
            "bits_per_parameter": round(8 * after / n_parameters, 3),
            "relative_weight_error": {kind: round(error, 6) for kind, error in errors.items()},
            "copied": copied,
        }
        return Outcome(spec=spec, facts=facts)

    def probe(self) -> dict[str, Rate]:
        import torch

        from arriero.compression.rounding import round_weight
        from arriero.models.layers.packing import pack
        from arriero.models.layers.quantized import WeightScheme

        weight = torch.empty(_PROBE_SHAPE).normal_(generator=torch.Generator().manual_seed(0))
        times = []
        for _ in range(3):
            started = time.perf_counter()
            pack(round_weight(weight, WeightScheme(4, DEFAULT_GROUPS[0]), torch.bfloat16).codes, 4)
            times.append(time.perf_counter() - started)
        return {RATE: Rate(per_s=weight.numel() / sorted(times)[1], spread=0.5, unit="parameters")}


def _spec(settings: QuantizeSettings, config: Any, n_parameters: int) -> ModelSpec:
    from arriero.models.checkpoint import predicted_file_bytes

    return ModelSpec(
        config=config.model_dump(mode="json"),
        n_parameters=n_parameters,
        weight_bytes=predicted_file_bytes(config, settings.dtype, settings.weight_scheme(config)),
        format=settings.scheme,
    )


def _seconds(source: ModelSpec, made: ModelSpec, device: DeviceProfile) -> Quantity:
    from arriero.compression.companions import FOLDER_SECONDS
    from arriero.models.decoder_config import decoder_config

    rate = device.rate(RATE)
    if rate is None:
        return Quantity.unknown("s", f"rate {RATE} was not measured; run `arriero calibrate`")
    counts = decoder_config(source.config, "the model to quantise").parameter_counts()
    rounded = counts["attention"] + counts["feed_forward"]
    copying = (source.weight_bytes + made.weight_bytes) / device.copy_bytes_per_s
    return Quantity.band(
        FOLDER_SECONDS + rounded / rate.per_s + copying,
        rate.spread,
        "s",
        "modelled",
        "measured rate of rounding",
    )


def _refuse_quantised(spec: ModelSpec) -> None:
    if spec.format.startswith("int"):
        raise ArrieroError(
            f"the model to quantise is {spec.format} already; take the model that it was made from"
        )
