"""lm-evaluation-harness's own `local-completions` client against our server: its scores are our evaluator's."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.parity

PAIRS = [("The capital of France is", " Paris."), ("¿Qué es?", " Un animal 🦙"), ("a", "b c d")]


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    path = Path(__file__).parents[1] / "inference" / "conftest.py"
    spec = importlib.util.spec_from_file_location("arriero_engine_helpers", path)
    assert spec is not None and spec.loader is not None
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    from arriero.inference.engine import Engine
    from arriero.serving.server import ServerOptions, serving

    engine = Engine(helpers.tiny_model(context_length=512), helpers.byte_tokenizer(), max_batch=4)
    with serving(engine, "tiny", ServerOptions(port=0, api_key="sk-test")) as (info, _):
        yield info, engine


def test_loglikelihoods_are_our_evaluators(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from arriero.models.scoring import token_logprobs

    info, engine = served
    monkeypatch.setenv("OPENAI_API_KEY", info.key)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    engine.tokenizer.save(tmp_path)
    client = LocalCompletionsAPI(
        base_url=f"{info.url}/v1/completions",
        model="tiny",
        tokenizer=str(tmp_path),
        batch_size=2,
        max_length=512,
    )
    asked = [Instance("loglikelihood", {}, pair, 0) for pair in PAIRS]
    found = client.loglikelihood(asked, disable_tqdm=True)
    encode = engine.tokenizer.encode
    ours = token_logprobs(engine.model, [encode(c) + encode(a) for c, a in PAIRS])
    for (_, answer), (score, _), row in zip(PAIRS, found, ours, strict=True):
        assert score == pytest.approx(float(row[-len(encode(answer)) :].sum()), abs=1e-3)
