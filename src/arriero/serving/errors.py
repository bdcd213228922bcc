"""Errors of the service, in the shape that OpenAI's clients understand."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error that becomes the answer to a request.

    ``kind`` is OpenAI's ``type``; ``param`` names the field at fault, ``code`` is a short stable word.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, message, param=param, code=code)


def overloaded(message: str, retry_after: int = 2) -> ApiError:
    """429: too many requests, or too many tokens, are waiting."""
    return ApiError(
        429, message, kind="rate_limit_error", code="queue_full", headers={"Retry-After": str(retry_after)}
    )


def unavailable(message: str, *, code: str = "unavailable", retry_after: int = 5) -> ApiError:
    """503: the server is going down, its engine has failed, or it did not get to the request in time."""
    return ApiError(
        503, message, kind="service_unavailable", code=code, headers={"Retry-After": str(retry_after)}
    )


def server_error(message: str) -> ApiError:
    """500: the fault is on this side."""
    return ApiError(500, message, kind="server_error", code="engine_error")
