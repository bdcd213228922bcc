"""The API's own description: complete, true, and survived by what schemathesis makes of it."""

from __future__ import annotations

from typing import Any

import pytest

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}


def test_the_description_is_behind_the_key_and_complete(server: Any) -> None:
    import httpx

    assert httpx.get(server.info.url + "/openapi.json", trust_env=False).status_code == 401
    found = server.http.get("/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    assert {
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/models/{name}",
        "/tokenize", "/detokenize", "/health", "/metrics",
    } <= set(found["paths"])  # fmt: skip
    chat = found["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is False
    assert "user" in chat["properties"]
    assert all(
        "description" in chat["properties"][name] for name in ("temperature", "n", "stream", "logprobs")
    )
    text = str(found)
    for name in ("ChatRequest", "CompletionRequest", "ResponsesRequest", "EmbeddingRequest", "Error"):
        assert f"#/components/schemas/{name}" in text
        assert name in found["components"]["schemas"]


def test_every_reference_leads_somewhere(server: Any) -> None:
    found = server.http.get("/openapi.json").json()
    schemas = found["components"]["schemas"]

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                assert reference.rpartition("/")[2] in schemas, reference
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    walk(found)


def test_there_are_no_pages_of_documentation(server: Any) -> None:
    for path in ("/docs", "/redoc"):
        assert server.http.get(path).status_code == 404


@pytest.mark.slow
def test_schemathesis_finds_no_failure(start: Any) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    server = start(max_seconds=5.0, max_tokens=4)
    headers = {"Authorization": f"Bearer {server.info.key}"}
    schema = schemathesis.openapi.from_url(server.info.url + "/openapi.json", headers=headers)
    # that a request which keeps to the schema is always accepted cannot be asked for: whether two fields go together,
    # whether a model exists and whether a prompt fits is not in a schema
    left_out = [schemathesis.checks.positive_data_acceptance] if hasattr(schemathesis.checks, "positive_data_acceptance") else []  # fmt: skip
    statuses: set[int] = set()

    for operation in schema.get_all_operations():
        _walk(operation.ok(), headers, left_out, statuses)
    assert {200, 400} <= statuses
    assert not any(status >= 500 for status in statuses - {503})
    health = server.health()
    assert health["status"] == "ok"
    assert server.http.post("/v1/chat/completions", json=BODY).status_code == 200


def _walk(operation: Any, headers: dict[str, str], left_out: list[Any], statuses: set[int]) -> None:
    from hypothesis import HealthCheck, given, settings

    @given(case=operation.as_strategy())
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "tiny"
        response = case.call(headers=headers)
        statuses.add(response.status_code)
        case.validate_response(response, excluded_checks=left_out)

    check()
