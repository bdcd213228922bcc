"""What ``pretrain`` asks of an encoder: its shape, its objective and its masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, ValidationError, model_validator

from arriero.stage import StageSettings

if TYPE_CHECKING:
    from arriero.models.encoder_config import EncoderConfig
    from arriero.tokenization.tokenizer import Tokenizer
    from arriero.training.architecture import ArchitectureSettings

ObjectiveName = Literal["auto", "causal", "masked", "next_sentence", "sentence_order"]
_USUAL: dict[str, Any] = {"d_model": 256, "n_layers": 6, "n_heads": 4, "context_length": 256, "dropout": 0.0}
_USUAL_EMBEDDING = 128
_STD, _STD_WIDTH = 0.02, 768
"""Fresh weights of BERT base. A narrower model keeps their product with the root of the width: with 0.02 at width 192
what a block adds to the stream is so small at first that in 1,000 steps attention learnt nothing."""
_MADE_FOR: dict[str, ObjectiveName] = {"bert": "next_sentence", "albert": "sentence_order"}


class MaskingSettings(StageSettings):
    """Settings of masked objectives; only families that read both ways read them."""

    objective: ObjectiveName = Field(
        default="auto",
        description="causal: the next token; masked: hidden ones; next_sentence (BERT) or sentence_order (ALBERT): these "
        "and pairs; auto: what the family is made for",
    )
    mask_share: float = Field(default=0.15, gt=0, lt=1, description="share of the tokens that are to be told")
    masking: Literal["dynamic", "static"] = Field(
        default="dynamic", description="a new mask in each epoch (RoBERTa), or mask_copies that come round"
    )
    mask_copies: int = Field(default=10, ge=1, description="static masks of each text (BERT: 10)")
    whole_word: bool = Field(default=False, description="the pieces of a word are hidden together")
    mask_ngrams: int = Field(
        default=1, ge=1, le=10, description="most tokens (or whole words) hidden in a row (ALBERT: 3)"
    )

    packing: bool = Field(
        default=True,
        description="several short documents share a row, and none sees another, where that leaves less padding (objective "
        "masked with document_mask; families with plain attention); the gradient is the same",
    )

    @model_validator(mode="after")
    def _copies_are_static(self) -> MaskingSettings:
        if self.masking == "dynamic" and self.mask_copies != type(self).model_fields["mask_copies"].default:
            raise ValueError("mask_copies is for masking static; dynamic masks are never the same twice")
        return self

    def refuse_masking(self, family: str) -> None:
        """
        Raises:
            ValueError: a setting of masks is given, or a masked objective, for a model that tells the next token.
        """
        if self.objective not in ("auto", "causal"):
            raise ValueError(
                f"objective {self.objective}: a model of the family {family} tells the next token"
            )
        for name in MaskingSettings.model_fields.keys() - StageSettings.model_fields.keys() - {"objective"}:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: a model of the family {family} hides no tokens")


def is_encoder(settings: ArchitectureSettings) -> bool:
    """Whether the settings name a family (or a preset of one) that reads both ways.

    Raises:
        ArrieroError: no such family or preset.
    """
    from arriero.models.encoder_config import EncoderConfig
    from arriero.models.families import get_family
    from arriero.models.preset import preset_config

    if settings.preset:
        return isinstance(preset_config(settings.preset), EncoderConfig)
    return issubclass(get_family(settings.family).config, EncoderConfig)


def objective_of(settings: Any, config: EncoderConfig) -> ObjectiveName:
    """The objective of an encoder's training."""
    wanted: ObjectiveName = settings.objective
    return _MADE_FOR.get(config.family, "masked") if wanted == "auto" else wanted


def row_length(settings: ArchitectureSettings, config: EncoderConfig) -> int:
    """Tokens of a row, its special ones included."""
    return settings.context_length or config.longest or config.context_length


def encoder_config(settings: Any, vocab_size: int) -> EncoderConfig:
    """Configuration of an encoder as the settings (ArchitectureSettings, MaskingSettings) have it.

    Raises:
        ValueError: a setting that the family does not read, or sizes that do not fit each other.
    """
    from arriero.models.families import get_family
    from arriero.models.preset import preset_config

    base = preset_config(settings.preset).model_dump() if settings.preset else {}
    family = get_family(base.get("family", settings.family))
    if settings.preset and settings.family not in (family.name, "llama"):
        raise ValueError(f"preset {settings.preset} is of the family {family.name}, not {settings.family}")
    values = {**(base or _usual(family)), **_given(settings, family.name)}
    if not base:
        values.setdefault("d_ff", 4 * values["d_model"])
        values["init_std"] = _STD * (_STD_WIDTH / values["d_model"]) ** 0.5
        if family.name == "albert":
            values.setdefault("embedding_size", min(_USUAL_EMBEDDING, values["d_model"]))
    values |= {"family": family.name, "vocab_size": vocab_size, "task": "masked_lm"}
    if values.get("positions") == "skip_padding" and (settings.context_length or not base):
        values["context_length"] += (
            values.get("pad_id", 0) + 1
        )  # as long as the tokenizer's padding is not known
    try:
        config = cast("EncoderConfig", family.config.model_validate(values))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    objective = objective_of(settings, config)
    if objective == "causal":
        raise ValueError(f"objective causal: a model of the family {family.name} reads both ways")
    if objective != "masked":
        if "pretraining" not in family.architectures.values():
            raise ValueError(f"objective {objective}: a model of the family {family.name} has no head for it")
        config = config.model_copy(update={"task": "pretraining"})
    if row_length(settings, config) > (config.longest or 1 << 40):
        raise ValueError(
            f"context_length {settings.context_length}: the model has {config.longest} positions"
        )
    return config


def fitted(config: EncoderConfig, tokenizer: Tokenizer) -> EncoderConfig:
    """The configuration with the tokenizer's own ids; as many positions are left as there were."""
    longest, pad = config.longest, tokenizer.pad_id
    config = config.model_copy(update={"pad_id": pad, "sep_id": tokenizer.eos_id})
    if config.positions == "skip_padding" and longest is not None:
        config = config.model_copy(update={"context_length": longest + pad + 1})
    return config


def _usual(family: Any) -> dict[str, Any]:
    known = {
        name: value for name, value in family.defaults.items() if name in ("n_segments", "pad_id", "n_groups")
    }
    return {**family.read({}), **family.fixed, **known, **_USUAL}


def _given(settings: Any, family: str) -> dict[str, Any]:
    """What the settings say of the shape.

    Raises:
        ValueError: a setting that the family does not read.
    """
    names = {"d_model", "n_layers", "n_heads", "d_ff", "context_length", "tie_embeddings", "dropout"}
    given = {name: getattr(settings, name) for name in names}
    found = {
        name: value
        for name, value in given.items()
        if (value is not None and value != 0) or name == "dropout"
    }
    if found["dropout"] is None:
        del found["dropout"]
    if settings.d_embedding is not None and family == "albert":
        found["embedding_size"] = settings.d_embedding
    others = ("n_kv_heads", "window", "direct", "rope_theta", "stream")
    unread = (*others, *(() if family == "albert" else ("d_embedding",)))
    for name in unread:
        if getattr(settings, name) is not None:
            raise ValueError(
                f"{name}: a model of the family {family} has no such setting (here {getattr(settings, name)!r})"
            )
    return found
