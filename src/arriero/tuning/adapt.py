"""What the stages that change a given model share: its settings, loading, adapters, and the folder it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError
from arriero.models.decoder_config import DecoderConfig, decoder_config
from arriero.stage import Context, ModelSpec
from arriero.training.file_data import FileDataSettings
from arriero.training.tasks import TaskSettings

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder
    from arriero.tokenization.tokenizer import Tokenizer

ADAPTER_FOLDER = "adapter"


class AdaptSettings(FileDataSettings, TaskSettings):
    """Data, held-out share, row length and adapters."""

    max_length: int = Field(
        default=0, ge=0, description="longest row in tokens, cut at the end; 0 = the model's context"
    )
    lora_rank: int = Field(default=0, ge=0, description="rank of the adapters; 0 = train all weights")
    lora_alpha: float = Field(
        default=0.0, ge=0, description="scale of the adapters is alpha / rank; 0 = twice the rank"
    )
    lora_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout before the adapters, while training"
    )
    lora_targets: str = Field(
        default="all-linear",
        description="layers with adapters: 'all-linear' or names with commas, 'q_proj,v_proj'",
    )

    def row_length(self, config: DecoderConfig) -> int:
        """Longest row in tokens.

        Raises:
            ArrieroError: ``max_length`` is more than the model's context.
        """
        if self.max_length > config.context_length:
            raise ArrieroError(
                f"max_length {self.max_length} is more than the model's context of {config.context_length} tokens"
            )
        return self.max_length or config.context_length


def adapter_setup(settings: AdaptSettings, seed: int) -> Callable[[Decoder], object]:
    """What to do to a model before it is trained: nothing, or freeze it and put adapters on."""
    if not settings.lora_rank:
        return lambda model: None

    def adapt(model: Decoder) -> object:
        from arriero.tuning.lora import apply_lora

        alpha = settings.lora_alpha or 2.0 * settings.lora_rank
        return apply_lora(
            model, settings.lora_rank, alpha, settings.lora_dropout, settings.lora_targets.split(","), seed
        )

    return adapt


def check_format(spec: ModelSpec) -> DecoderConfig:
    """The configuration of a model that can be trained.

    Raises:
        ArrieroError: its weights are quantised.
    """
    if spec.format in ("int8", "int4"):
        raise ArrieroError(
            f"the model's weights are {spec.format}; train the unquantised model and quantise it after"
        )
    return decoder_config(spec.config, "the model")


def load_for_training(artifact: Artifact) -> tuple[Decoder, Tokenizer]:
    """Model in float32, all weights trainable, and its tokenizer; from an artifact or a plain Hugging Face folder.

    Raises:
        ArrieroError: not a model that can be trained, or the tokenizer has more pieces than the model has rows.
    """
    from arriero.models.checkpoint import load_decoder, read_format
    from arriero.tokenization.tokenizer import Tokenizer

    if (found := read_format(artifact.path)) in ("int8", "int4"):
        raise ArrieroError(
            f"{artifact.path} holds {found} weights; train the unquantised model and quantise it after"
        )
    model, tokenizer = load_decoder(artifact.path, dtype="float32"), Tokenizer.load(artifact.path)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ArrieroError(
            f"{artifact.path}: the tokenizer has {tokenizer.vocab_size:,} tokens, the model only "
            f"{model.config.vocab_size:,}; they do not belong together"
        )
    return model, tokenizer


def write_adapted(
    model: Decoder, tokenizer: Tokenizer, settings: AdaptSettings, context: Context
) -> ModelSpec:
    """Write the trained model, adapters merged into it, and with LoRA the adapters themselves in PEFT's format."""
    from arriero.training.model_folder import full_disk_is_an_error, write_model_folder
    from arriero.tuning.lora import merge_lora, save_adapter

    if not settings.lora_rank:
        return write_model_folder(model, tokenizer, context.folder)
    with full_disk_is_an_error(context.folder):
        save_adapter(model, context.folder / ADAPTER_FOLDER)
    merge_lora(model)
    return write_model_folder(model, tokenizer, context.folder)


def trained_parameters(model: Decoder) -> dict[str, Any]:
    """Facts: how many parameters are trained, of how many."""
    parameters = list(model.parameters())
    return {
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "parameters": sum(p.numel() for p in parameters),
    }
