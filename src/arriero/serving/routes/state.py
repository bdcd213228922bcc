"""`/health` and `/metrics`."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arriero.serving.endpoints import Endpoint
from arriero.serving.service import Service

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

Figures = dict[str, tuple[str, float]]


def state_routes(service: Service) -> list[Endpoint]:
    """How the engine does."""
    worker = service.worker

    async def health(request: Request) -> Response:
        """200 while the engine gets on with its work, else 503; the figures either way."""
        found = worker.health()
        body = {
            "status": found.state,
            **{k: v for k, v in asdict(found).items() if k not in ("ok", "state")},
        }
        return JSONResponse(body, 200 if found.ok else 503, headers={"Cache-Control": "no-store"})

    async def metrics(request: Request) -> Response:
        """Everything that is counted, for Prometheus."""
        return Response(service.metrics.text(_counters(service), _gauges(service)), media_type=PROMETHEUS)

    return [
        Endpoint("GET", "/health", health, "Whether the engine gets on with its work"),
        Endpoint("GET", "/metrics", metrics, "Figures for Prometheus", media="text/plain"),
    ]


def _counters(service: Service) -> Figures:
    found = service.worker.engine.counters
    return {
        "arriero_prompt_tokens_total": ("Tokens of prompts that were read.", found.prompt_tokens),
        "arriero_prefix_cache_hit_tokens_total": (
            "Tokens of prompts that were found in the pool.",
            found.cached_tokens,
        ),
        "arriero_generation_tokens_total": ("Tokens of answers.", found.generated_tokens),
        "arriero_engine_steps_total": ("Times the model was run.", found.steps),
        "arriero_preemptions_total": (
            "Answers that lost their place and were computed again.",
            found.preemptions,
        ),
        "arriero_aborted_total": ("Requests that were ended from outside.", found.aborted),
        "arriero_spec_decode_proposed_tokens_total": (
            "Guessed tokens that the model checked.",
            found.spec_proposed,
        ),
        "arriero_spec_decode_accepted_tokens_total": (
            "Guessed tokens that the model agreed with.",
            found.spec_accepted,
        ),
    }


def _gauges(service: Service) -> Figures:
    worker = service.worker
    engine, health = worker.engine, worker.health()
    counters = engine.counters
    return {
        "arriero_healthy": ("1 while the engine gets on with its work.", float(health.ok)),
        "arriero_requests_open": ("Requests whose clients wait.", health.open),
        "arriero_answers_running": ("Answers that have a place in the pool.", health.running),
        "arriero_answers_waiting": ("Answers that wait for a place.", health.waiting),
        "arriero_kv_cache_usage_ratio": (
            "Share of the key-value pool's blocks that answers own.",
            counters.blocks_used / counters.blocks_total,
        ),
        "arriero_kv_cache_blocks": ("Blocks of the key-value pool.", counters.blocks_total),
        "arriero_seconds_since_step": (
            "Since the engine's last step, while there is work.",
            health.seconds_since_step,
        ),
    }
