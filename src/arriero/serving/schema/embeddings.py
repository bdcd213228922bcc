"""The bodies of `/v1/embeddings`, `/v1/rerank` and `/v1/classify`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from arriero.serving.schema.body import Body
from arriero.serving.schema.sampling import TokenId

MAX_TEXTS = 2048

Cost = Annotated[bool | None, Field(description="put energy and money into the usage")]
Ids = Annotated[list[TokenId], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(Body):
    """One text or several, or token ids; a vector comes back for each."""

    model: str = Field(description="the model for embeddings")
    input: (
        Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_TEXTS)]
    ) = Field(description="a text, token ids, or a list of either")
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="numbers, or little-endian float32 in base64"
    )
    dimensions: int | None = Field(
        default=None, ge=1, lt=2**31, description="the first so many, at length 1 again"
    )
    include_cost: Cost = None

    def inputs(self) -> list[str] | list[list[int]]:
        """The inputs as a list of texts, or of lists of ids."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [self.input]
        return self.input


class RerankRequest(Body):
    """A question and the documents to sort by how well they answer it."""

    model: str
    query: str = Field(min_length=1)
    documents: list[Text] = Field(min_length=1, max_length=MAX_TEXTS)
    top_n: int | None = Field(default=None, ge=1, lt=2**31, description="give only so many")
    return_documents: bool | None = Field(default=None, description="with their texts")
    include_cost: Cost = None


class ClassifyRequest(Body):
    """Texts to put into the classes of a classifier."""

    model: str
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    include_cost: Cost = None

    def inputs(self) -> list[str]:
        """The inputs as a list."""
        return [self.input] if isinstance(self.input, str) else self.input
