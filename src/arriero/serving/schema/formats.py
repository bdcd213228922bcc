"""``response_format`` and the Responses API's ``text.format``: free text, any JSON object, or a JSON Schema."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from arriero.inference.grammar.spec import GrammarSpec
from arriero.serving.schema.body import Part


class TextFormat(Part):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(Part):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Part):
    """A JSON Schema with OpenAI's name for it. The answer always keeps to it; ``strict: false`` only leaves out what of
    it cannot be enforced, instead of refusing it."""

    name: str = Field(max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Part):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class FlatJsonSchemaFormat(NamedSchema):
    """JSON that a schema describes, as the Responses API writes it."""

    type: Literal["json_schema"]


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]
TextOptionFormat = Annotated[
    TextFormat | JsonObjectFormat | FlatJsonSchemaFormat, Field(discriminator="type")
]


def grammar_of(
    form: TextFormat | JsonObjectFormat | JsonSchemaFormat | FlatJsonSchemaFormat | None,
) -> GrammarSpec | None:
    """The grammar that a format asks for; None for free text."""
    if form is None or isinstance(form, TextFormat):
        return None
    if isinstance(form, JsonObjectFormat):
        return GrammarSpec("json_object")
    named = form.json_schema if isinstance(form, JsonSchemaFormat) else form
    return GrammarSpec("json_schema", json.dumps(named.schema_), strict=named.strict is not False)
