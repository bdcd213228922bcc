"""From the options of `arriero plan --goal` to a question."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.config import ModelConfig
from arriero.planning.estimate.layout_text import parse_count
from arriero.planning.estimate.model_source import find_model
from arriero.planning.goal.question import METHODS, GoalQuestion, parse_deadline, parse_prices

_DTYPES = ("bf16", "fp32", "fp8")


@dataclass(frozen=True)
class Known:
    """What a recipe says of the run that a question is about; the options go before it."""

    name: str
    config: ModelConfig
    tokens: float | None
    context: int | None = None
    batch_tokens: float | None = None
    optimizer: str | None = None
    tariffs: dict[str, Any] = field(default_factory=dict)


def question_of(goal: str, asked: dict[str, Any], now: datetime, known: Known | None = None) -> GoalQuestion:
    """The question, checked.

    Args:
        asked: options that were given, by name. now: what deadlines count from.

    Raises:
        ArrieroError: an option that cannot be read, or that does not go with the goal.
    """
    if known is not None and "model" in asked:
        raise ArrieroError("--model: the recipe names the model already; give one of the two")
    found: dict[str, Any] = {
        **_of_recipe(known, goal),
        **_model(asked),
        **_sizes(asked),
        **_limits(asked, now),
    }
    for name in ("context", "optimizer", "judged_by"):
        if name in asked:
            found[name] = asked[name]
    if "region" in asked:
        found["tariffs"] = {**found.get("tariffs", {}), "region": asked["region"]}
        found["tariffs"].pop("grid_g_per_kwh", None)
    if "prices" in asked:
        found["prices"] = parse_prices(asked["prices"])
    for name, option in (("hardware", "hardware"), ("models", "models")):
        if option in asked:
            found[name] = _words(asked[option], option)
    found.setdefault("methods", METHODS if goal == "fits" else ("full",))
    found.setdefault("max_devices", 1 if goal == "fits" else 64)
    question = GoalQuestion(goal=goal, runnable="any_layout" not in asked, **found)  # type: ignore[arg-type]
    question.check()
    return question


def _of_recipe(known: Known | None, goal: str) -> dict[str, Any]:
    if known is None:
        return {}
    if goal == "best-model":
        raise ArrieroError("--goal best-model chooses the model itself: leave out the recipe")
    named = {
        "name": known.name,
        "config": known.config,
        "tokens": known.tokens,
        "tariffs": dict(known.tariffs),
    }
    rest = {"context": known.context, "batch_tokens": known.batch_tokens, "optimizer": known.optimizer}
    return {**named, **{name: value for name, value in rest.items() if value is not None}}


def _model(asked: dict[str, Any]) -> dict[str, Any]:
    if "model" not in asked:
        return {}
    source = find_model(asked["model"])
    return {"name": source.name, "config": source.config}


def _sizes(asked: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("tokens", "batch_tokens"):
        if name in asked:
            found[name] = parse_count(asked[name], f"--{name.replace('_', '-')}")
    if "max_devices" in asked:
        found["max_devices"] = asked["max_devices"]
    if "devices" in asked:
        found["counts"] = tuple(sorted({_count(word) for word in _words(asked["devices"], "devices")}))
        found["max_devices"] = max(found["counts"])
    if "method" in asked:
        found["methods"] = _choices(asked["method"], METHODS, "method")
    if "precision" in asked:
        found["dtypes"] = _choices(asked["precision"], _DTYPES, "precision")
    return found


def _limits(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "deadline" in asked:
        found["deadline"] = parse_deadline(asked["deadline"], now)
        found["deadline_text"] = asked["deadline"].strip()
    if "budget" in asked:
        found["budget"] = float(asked["budget"])
    return found


def _words(text: str, option: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise ArrieroError(f"--{option} names nothing; separate names by commas")
    return words


def _choices(text: str, allowed: tuple[str, ...], option: str) -> tuple[str, ...]:
    words = _words(text, option)
    for word in words:
        if word not in allowed:
            raise ArrieroError(f"--{option}: unknown '{word}'{did_you_mean(word, allowed)}")
    return words


def _count(word: str) -> int:
    if not word.isdecimal() or not 1 <= int(word) <= 4096:
        raise ArrieroError(f"--devices: '{word}' should be a count of 1 to 4096, such as 8")
    return int(word)
