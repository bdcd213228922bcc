"""The API's description in OpenAPI 3.1, from the models that read the bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from arriero.serving.endpoints import Endpoint
from arriero.serving.schema.body import Body
from arriero.version import __version__

REF = "#/components/schemas/{model}"
ERRORS = {
    "400": "The request is wrong; the error names the field and says what would be right.",
    "401": "The key is missing or wrong.",
    "403": "Another site's page, or another name of this host.",
    "404": "There is no such model, response or adapter.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "414": "The path is too long.",
    "429": "Too much is waiting; Retry-After says when to come back.",
    "431": "The headers are too large.",
    "500": "The server failed.",
    "503": "The server is going down or its engine does not work; Retry-After says when to come back.",
}
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def openapi(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole description."""
    schemas: dict[str, Any] = {"Error": ERROR}
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        path = re.sub(r"{(\w+):path}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Arriero", "version": __version__, "description": "OpenAI-compatible server."},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {endpoint.media: {}}
    if endpoint.streams:
        content["text/event-stream"] = {}
    responses: dict[str, Any] = {"200": {"description": "All is well.", "content": content}}
    for status, why in ERRORS.items():
        responses[status] = {"description": why, "content": {"application/json": {"schema": _ref("Error")}}}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _identifier(endpoint),
        "responses": responses,
    }
    if endpoint.path == "/health":  # without a key, and with its own figures when it is not well
        operation["security"] = []
        responses["503"] = {
            "description": "The engine does not get on.",
            "content": {"application/json": {}},
        }
    names = re.findall(r"{(\w+)}", path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _body(endpoint.body, schemas)}},
        }
    return operation


def _body(body: type[Body], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the body's schema, which is put beside the others. Fields that are accepted and not used are named.

    ``additionalProperties`` stays false: an unknown field is refused.
    """
    schema = body.model_json_schema(ref_template=REF)
    schemas.update(schema.pop("$defs", {}))
    properties = schema["properties"]
    for name in sorted(body.harmless):
        properties.setdefault(name, {"description": "accepted, without effect"})
    for name, values in sorted(body.neutral.items()):
        properties.setdefault(name, {"enum": [None, *values], "description": "only what asks for nothing"})
    schemas[body.__name__] = schema
    return _ref(body.__name__)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(model=name)}


def _identifier(endpoint: Endpoint) -> str:
    words = re.findall(r"[a-z0-9]+", endpoint.path.replace(":path", ""))
    return "_".join([endpoint.method.lower(), *words])
