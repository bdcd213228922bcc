"""Which model a training starts from: a family and its shape, out of the settings that families share.

A family reads a setting when its files can hold it: what a ``config.json`` of the family would lose is refused, so no
setting is silently without effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator

from arriero.errors import ArrieroError
from arriero.training.settings import TrainSettings

if TYPE_CHECKING:
    from arriero.models.config import ModelConfig
    from arriero.models.family import Family

_USUAL: dict[str, Any] = {
    "d_model": 256, "n_layers": 6, "n_heads": 4, "n_kv_heads": 2, "context_length": 256, "rope_theta": 500000.0,
    "tie_embeddings": True, "dropout": 0.0,
}  # fmt: skip
"""Of a decoder whose settings leave these open."""
_USUAL_RECURRENT = {"n_layers": 1}
_WINDOW = 256
"""Tokens of a training window where neither the settings nor the model say."""


class ArchitectureSettings(TrainSettings):
    """Family and shape. What is left open is the preset's, or as usual for the family."""

    family: str = Field(
        default="llama", description="kind of model: llama, gpt2, lstm, rnn, feedforward, ..."
    )
    preset: str = Field(
        default="", description="take the shape of a published model (see 'arriero models list'), new weights"
    )
    depth: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="one dial for a decoder's size: so many blocks, 64 times as wide, with heads, batch_size and "
        "learning_rate to match; what is set beside it stays as set",
    )
    d_model: int | None = Field(
        default=None,
        ge=2,
        description="width of the model, of a recurrent state or hidden layer; usually 256",
    )
    n_layers: int | None = Field(
        default=None, ge=1, description="decoder blocks (usually 6) or recurrent layers (usually 1)"
    )
    n_heads: int | None = Field(default=None, ge=1, description="attention heads; usually 4")
    n_kv_heads: int | None = Field(
        default=None, ge=1, description="heads of keys and values; n_heads is a multiple of it; usually 2"
    )
    d_ff: int | None = Field(
        default=None,
        ge=0,
        description="width of the feed-forward layer; usually 8/3 d_model, by 32, with a gate, else 4 d_model",
    )
    d_embedding: int | None = Field(
        default=None,
        ge=1,
        description="width of the embedding of small nets; feedforward: usually 32, else d_model",
    )
    window: int | None = Field(
        default=None, ge=1, description="feedforward: tokens that the next one is told from; usually 16"
    )
    direct: bool | None = Field(
        default=None, description="feedforward: a linear path from the embeddings to the logits; usually true"
    )
    context_length: int | None = Field(
        default=None, ge=2, description="tokens of a training window, a decoder's context; usually 256"
    )
    rope_theta: float | None = Field(
        default=None, gt=0, description="base of the rotary frequencies; usually 500000"
    )
    tie_embeddings: bool | None = Field(
        default=None, description="the head uses the embedding's table; usually true"
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="share of values set to zero in training; usually 0"
    )
    stream: bool | None = Field(
        default=None,
        description="read the text in order and carry the state from window to window; usually for recurrent families",
    )

    @model_validator(mode="after")
    def _shape_fits(self) -> ArchitectureSettings:
        config = self.config(vocab_size=1)
        if self.stream and config.context_length is not None:  # type: ignore[attr-defined]
            raise ValueError(f"stream: a model of the family {config.family} carries no state over a stream")
        return self

    def config(self, vocab_size: int) -> ModelConfig:
        """The model's configuration.

        Raises:
            ValueError: no such family, a setting that it does not read, or sizes that do not fit each other.
        """
        from arriero.models.families import get_family

        try:
            base = self._preset()
            family = get_family(base["family"] if base else self.family)
            given = self._given(family)
            shape = self._dialled(family, given)
            values = {
                **(_without_what_follows(base, given) or _usual(family, {**shape, **given})),
                **shape,
                **given,
                "family": family.name,
                "vocab_size": vocab_size,
            }
            config = family.config.model_validate(values)
            _check_that_all_are_read(family, config, given)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        except ArrieroError as error:
            raise ValueError(str(error)) from None
        return config

    def window_length(self, config: ModelConfig) -> int:
        """Tokens of a training window."""
        return self.context_length or getattr(config, "context_length", None) or _WINDOW

    def streams(self, config: ModelConfig) -> bool:
        """Whether the text is read as streams."""
        from arriero.models.recurrent_config import RecurrentConfig

        return isinstance(config, RecurrentConfig) if self.stream is None else self.stream

    def _preset(self) -> dict[str, Any]:
        """The fields of the preset's configuration; empty without one."""
        if not self.preset:
            return {}
        from arriero.models.preset import preset_config

        values: dict[str, Any] = preset_config(self.preset).model_dump()
        if self.family not in (values["family"], "llama"):
            raise ValueError(f"preset {self.preset} is of the family {values['family']}, not {self.family}")
        return values

    def _dialled(self, family: Family, given: dict[str, Any]) -> dict[str, Any]:
        """The shape that the depth stands for; empty without one."""
        from arriero.models.decoder_config import DecoderConfig
        from arriero.training.dial import shape_of

        if self.depth is None:
            return {}
        if self.preset:
            raise ValueError(f"depth and preset {self.preset} are two shapes; give one of them")
        if not issubclass(family.config, DecoderConfig):
            raise ValueError(
                f"depth is a decoder's dial; for the family {family.name} set n_layers and d_model"
            )
        shape: dict[str, Any] = dict(shape_of(self.depth))
        for name in ("d_model", "n_layers"):
            if given.get(name, shape[name]) != shape[name]:
                raise ValueError(
                    f"depth {self.depth} means {name} {shape[name]}, not {given[name]}; give one of the two"
                )
        if "n_kv_heads" in family.keys:
            shape["n_kv_heads"] = given.get("n_heads", shape["n_heads"])
        return shape

    def _given(self, family: Family) -> dict[str, Any]:
        """What the settings say of the shape; a family without a longest sequence has windows, but none in its shape."""
        from arriero.models.decoder_config import DecoderConfig

        names = ArchitectureSettings.model_fields.keys() - TrainSettings.model_fields.keys()
        given = {name: getattr(self, name) for name in names - {"family", "preset", "stream", "depth"}}
        given = {name: value for name, value in given.items() if value}
        given |= {name: getattr(self, name) for name in ("tie_embeddings", "direct", "dropout")}
        given = {name: value for name, value in given.items() if value is not None}
        for name in sorted(given.keys() - family.config.model_fields.keys() - {"context_length"}):
            raise ValueError(_unread(name, given[name], family))
        if not issubclass(family.config, DecoderConfig):
            given.pop("context_length", None)
        if "causal_lm" not in family.architectures.values():
            raise ValueError(f"pretrain trains models that tell the next token; a {family.name} does not")
        return given


def _without_what_follows(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A preset's fields but those that follow anew from another width or number of heads."""
    changed = {"d_model", "n_heads"} & given.keys()
    follow = {"head_dim"} if changed else set()
    if "n_heads" in given and base.get("n_kv_heads") == base.get("n_heads"):
        follow.add("n_kv_heads")
    return {name: value for name, value in base.items() if name not in follow}


def _usual(family: Family, given: dict[str, Any]) -> dict[str, Any]:
    """The family's shape where the settings say nothing."""
    from arriero.models.decoder_config import DecoderConfig

    if not issubclass(family.config, DecoderConfig):
        usual = {"d_model": _USUAL["d_model"], **_USUAL_RECURRENT}
        return {name: value for name, value in usual.items() if name in family.config.model_fields}
    values = {**_read_nothing(family), **_USUAL, **family.fixed}
    if "n_kv_heads" not in family.keys:
        values["n_kv_heads"] = None  # one for each query head
    if "d_ff" not in family.fixed:
        width = int(given.get("d_model", values["d_model"]))
        values["d_ff"] = _d_ff(width) if values.get("gated", True) else 4 * width
    return values


def _read_nothing(family: Family) -> dict[str, Any]:
    """What the family takes for the switches that its files may leave out."""
    try:
        return family.read({})
    except (ValueError, TypeError, KeyError):
        return {}


def _d_ff(d_model: int) -> int:
    """8/3 of the width, to the nearest multiple of 32: as many parameters as a plain layer of four times the width."""
    return max(32, round(8 * d_model / 3 / 32) * 32)


def _check_that_all_are_read(family: Family, config: ModelConfig, given: dict[str, Any]) -> None:
    """Raises:
    ValueError: a file of the family could not hold one of the given settings.
    """
    from arriero.models.hf_config import config_from_hf, config_to_hf

    again = config_from_hf(config_to_hf(config, "float32", {}), f"a model of the family {family.name}")
    for name, value in given.items():
        lost = getattr(again, name) != getattr(config, name)
        if (
            lost
            or name in family.fixed
            or (name == "rope_theta" and getattr(config, "positions", "") != "rotary")
        ):
            raise ValueError(_unread(name, value, family))


def _unread(name: str, value: Any, family: Family) -> str:
    return f"{name}: a model of the family {family.name} has no such setting (here {value!r})"
