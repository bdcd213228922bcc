"""What every family's configuration shares."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arriero.errors import ArrieroError, did_you_mean


class ModelConfig(BaseModel):
    """Base of every family's configuration: figures that fix a network's shape. Needs no torch.

    ``model_dump()`` is what a model's spec holds; ``arriero.models.checkpoint.build_model`` makes the network of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str = Field(description="whose names and files: a key of arriero.models.families.FAMILIES")
    vocab_size: int = Field(ge=1, description="rows of the embedding table")
    init_std: float = Field(default=0.02, gt=0, description="standard deviation of fresh weights")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of a branch's values set to zero in training"
    )

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> Self:
        """Validate ``values``; ``where`` names their origin in the error.

        Raises:
            ArrieroError: a value is missing, unknown, of the wrong kind or does not fit the others.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                message = f"unknown key{did_you_mean(name, cls.model_fields)}"
            raise ArrieroError(f"{where}: {name + ': ' if name else ''}{message}") from None
