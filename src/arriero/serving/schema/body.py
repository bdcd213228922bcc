"""Reading a body: UTF-8, JSON, an object, known fields.

A field of OpenAI's that would change the answer and that Arriero does not have is refused by name: an answer
that silently leaves out what was asked for is worse than none.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from arriero.errors import did_you_mean
from arriero.serving.errors import ApiError, bad_request

HARMLESS = frozenset(
    {
        "metadata",
        "moderation",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""OpenAI's fields that do not change what an answer says: accepted and not used."""


class Part(BaseModel):
    """A part of a body. Types are taken as they are: ``"1"`` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Body(Part):
    """A whole body.

    ``harmless`` fields are accepted and not used. ``neutral`` fields are OpenAI's that Arriero does not have, with
    the values of them (beside null) that ask for nothing; any other value is refused.
    """

    harmless: ClassVar[frozenset[str]] = HARMLESS
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def check(self) -> None:
        """Refuse fields that do not go together.

        Raises:
            ApiError: 400, naming the field.
        """


B = TypeVar("B", bound=Body)


def parse(raw: bytes, kind: type[B]) -> B:
    """Read a body.

    Raises:
        ApiError: 400, naming the field and what would be right.
    """
    fields = read_object(raw)
    kept = {name: value for name, value in fields.items() if not _ignored(name, value, kind)}
    try:
        body = kind.model_validate(kept)
    except ValidationError as error:
        raise first_problem(error, kept) from None
    except RecursionError:
        raise bad_request("the body is nested too deeply", code="invalid_json") from None
    body.check()
    return body


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        ApiError: 400, it is not UTF-8, not JSON, or no object.
    """
    try:
        fields = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise bad_request(
            f"the body is not UTF-8: byte {error.start} cannot be read", code="invalid_utf8"
        ) from None
    except RecursionError:
        raise bad_request("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from None
    if b"\\u" in raw and not _is_unicode(fields):
        raise bad_request(
            "the body holds half of a surrogate pair, which is no character", code="invalid_utf8"
        )
    if not isinstance(fields, dict):
        raise bad_request("the body should be a JSON object", code="invalid_json")
    return fields


def _is_unicode(value: Any) -> bool:
    """Whether every text in a JSON value can be written as UTF-8; an escape can name half a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _ignored(name: str, value: Any, kind: type[Body]) -> bool:
    """Whether to leave a field out; refuses fields that would have an effect Arriero does not have."""
    if name in kind.model_fields:
        return False
    if name in kind.harmless or (name in kind.neutral and (value is None or value in kind.neutral[name])):
        return True
    if name in kind.neutral:
        raise bad_request(
            f"'{name}' is not supported by this server: leave it out",
            param=name,
            code="unsupported_parameter",
        )
    hint = did_you_mean(name, kind.model_fields)
    raise bad_request(f"unknown field '{name[:100]}'{hint}", param=name[:100], code="unknown_parameter")


def first_problem(error: ValidationError, fields: dict[str, Any]) -> ApiError:
    """The first thing that is wrong, with the field's place in the body."""
    problems = error.errors(include_url=False, include_context=False)
    # of a union's alternatives the one that went deepest is what was meant
    same = [p for p in problems if p["loc"][:1] == problems[0]["loc"][:1]]
    first = max(same, key=lambda p: len(p["loc"]))
    param = ".".join(_place(first["loc"], fields))[:200]
    if first["type"] == "extra_forbidden":
        message = f"unknown field '{param}'"
    else:
        message = f"'{param}': {first['msg'].removeprefix('Value error, ')}"
    return bad_request(message.replace("\n", " "), param=param, code="invalid_value")


def _place(location: tuple[int | str, ...], value: Any) -> list[str]:
    """The keys and indices of a location; what stands between them are names of a union's alternatives."""
    place = []
    for number, part in enumerate(location):
        last = number == len(location) - 1
        if isinstance(part, int) and isinstance(value, list) and part < len(value):
            place.append(str(part))
            value = value[part]
        elif isinstance(value, dict) and (part in value or last):
            place.append(str(part))
            value = value.get(part)
    return place
