"""Adapters as models, loaded and unloaded while the server runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from arriero.serving.server import ServerOptions, load_engine, serving

CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none",
    "use_dora": False, "use_rslora": False, "modules_to_save": None,
}  # fmt: skip


def adapter(folder: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, 32, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(32, 4, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.fixture
def running(tmp_path: Path, server: Any, make_running: Any) -> Iterator[Any]:
    from arriero.models.checkpoint import save_model

    base = tmp_path / "base"
    base.mkdir()
    save_model(server.engine.model, base)
    server.engine.tokenizer.save(base)
    adapter(tmp_path / "more" / "second", 2)
    options = ServerOptions(
        port=0,
        api_key="sk-test",
        adapters={"first": adapter(tmp_path / "first", 1)},
        adapter_folder=tmp_path / "more",
    )
    engine = load_engine(base, options, max_batch=4)
    with serving(engine, "tiny", options) as (info, http_server):
        running = make_running(info, http_server)
        yield running
        running.http.close()


def said(server: Any, model: str) -> str:
    response = server.chat(model=model, temperature=0, max_tokens=20)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == model
    return str(response.json()["choices"][0]["message"]["content"])


def test_adapters_are_models(running: Any) -> None:
    assert [m["id"] for m in running.http.get("/v1/models").json()["data"]] == ["tiny", "first"]
    plain = said(running, "tiny")
    assert said(running, "first") != plain
    loaded = running.http.post("/v1/adapters", json={"name": "other", "path": "second"})
    assert loaded.status_code == 200, loaded.text
    assert said(running, "other") not in (plain, said(running, "first"))
    assert [a["id"] for a in running.http.get("/v1/adapters").json()["data"]] == ["first", "other"]
    assert running.http.delete("/v1/adapters/other").json()["loaded"] is False
    assert running.chat(model="other").status_code == 404
    assert running.http.delete("/v1/adapters/other").status_code == 404
    assert said(running, "tiny") == plain


@pytest.mark.parametrize(
    "path", ["../first", "/", "nothing", "", "second/adapter_config.json", "a\x00b", "."]
)
def test_folders_that_are_not_allowed(running: Any, path: str) -> None:
    refused = running.http.post("/v1/adapters", json={"name": "x", "path": path})
    assert refused.status_code == 400, refused.text
    assert "Traceback" not in refused.text


@pytest.mark.parametrize("name", ["tiny", "first", "a b", "../x", ""])
def test_names_that_are_not_allowed(running: Any, name: str) -> None:
    assert running.http.post("/v1/adapters", json={"name": name, "path": "second"}).status_code == 400


def test_off_unless_allowed(server: Any) -> None:
    assert server.http.get("/v1/adapters").status_code == 404
    assert server.http.post("/v1/adapters", json={"name": "x", "path": "y"}).status_code == 404
