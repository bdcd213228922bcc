"""`/v1/embeddings`, `/v1/rerank` and `/v1/classify`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from arriero.inference.encoder_engine import EncoderEngine
from arriero.models.checkpoint import save_model
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.tokenization.bert_vocab import from_vocab

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "e", "."]
TEXTS = ["a b c", "d", "e e e a b .", "a"]


def encoder_folder(folder: Path, **changes: Any) -> Path:
    shape: dict[str, Any] = {
        "vocab_size": len(WORDS), "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 48, "context_length": 40,
        "pad_id": 0, "init_std": 0.3, "dropout": 0.0,
    }  # fmt: skip
    model = Encoder(EncoderConfig.model_validate(shape | changes))
    model.init_weights(0)
    folder.mkdir()
    save_model(model.eval(), folder)
    from_vocab(WORDS).save(folder)
    return folder


def client_of(server: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=server.info.url + "/v1", api_key=server.info.key, max_retries=0, http_client=httpx.Client(trust_env=False)
    )  # fmt: skip


def test_vectors_of_the_decoder_itself(server: Any) -> None:
    engine = EncoderEngine(server.engine.model, server.engine.tokenizer)
    expected, tokens = engine.embed(TEXTS)
    client = client_of(server)
    for form in ("float", "base64"):
        found = client.embeddings.create(model="tiny", input=TEXTS, encoding_format=form)  # type: ignore[arg-type]
        for index, entry in enumerate(found.data):
            vector: Any = entry.embedding
            if form == "base64":  # the client decodes only what it asked for by itself
                vector = np.frombuffer(base64.b64decode(vector), dtype="<f4")
            np.testing.assert_allclose(vector, expected[index], atol=1e-5)
            assert entry.index == index
        assert found.usage.total_tokens == sum(tokens)
    by_itself = client.embeddings.create(model="tiny", input="a")
    np.testing.assert_allclose(by_itself.data[0].embedding, expected[3], atol=1e-5)


def test_fewer_dimensions_have_length_one(server: Any) -> None:
    (entry,) = client_of(server).embeddings.create(model="tiny", input="a b", dimensions=7).data
    assert len(entry.embedding) == 7
    assert np.linalg.norm(entry.embedding) == pytest.approx(1, abs=1e-5)


def test_ids_are_inputs_too(server: Any) -> None:
    ids = [server.engine.tokenizer.encode(text) for text in TEXTS]
    client = client_of(server)
    for given, texts in ((ids, TEXTS), (ids[0], TEXTS[:1])):
        found = client.embeddings.create(model="tiny", input=given)
        expected = client.embeddings.create(model="tiny", input=texts)
        for one, other in zip(found.data, expected.data, strict=True):
            np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"input": ""}, 400, ["input"]),
        ({"input": []}, 400, ["input"]),
        ({"input": [""]}, 400, ["input"]),
        ({"input": [10**6]}, 400, ["vocabulary"]),
        ({"input": "x" * 600}, 400, ["512"]),
        ({"dimensions": 33}, 400, ["33", "32"]),
        ({"dimensions": 0}, 400, ["dimensions"]),
        ({"encoding_format": "hex"}, 400, ["encoding_format"]),
        ({"model": "other"}, 404, ["other", "'tiny'"]),
        ({"dimension": 4}, 400, ["did you mean 'dimensions'"]),
    ],
)
def test_wrong_requests(server: Any, fields: dict[str, Any], status: int, words: list[str]) -> None:
    response = server.http.post("/v1/embeddings", json={"model": "tiny", "input": "a"} | fields)
    assert response.status_code == status, response.text
    for word in words:
        assert word in response.json()["error"]["message"]


def test_a_folder_for_embeddings_and_classes(start: Any, tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "classes", task="sequence_classification", n_labels=3)
    server = start(embeddings=folder)
    assert [m["id"] for m in server.http.get("/v1/models").json()["data"]] == ["tiny", "classes"]
    found = server.http.post("/v1/embeddings", json={"model": "classes", "input": TEXTS}).json()
    expected, _ = EncoderEngine.load(folder).embed(TEXTS)
    np.testing.assert_allclose([e["embedding"] for e in found["data"]], expected, atol=1e-5)
    body = server.http.post("/v1/classify", json={"model": "classes", "input": TEXTS}).json()
    for entry, known in zip(body["data"], EncoderEngine.load(folder).classify(TEXTS), strict=True):
        assert entry["label"] == known.label
        assert entry["probabilities"] == pytest.approx(known.probabilities, abs=1e-5)
    assert server.http.post("/v1/rerank", json={}).status_code == 404
    assert server.chat().status_code == 200


def test_reranking(start: Any, tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "cross", task="sequence_classification", n_labels=1)
    server = start(embeddings=folder)
    body = {"model": "cross", "query": "a b", "documents": TEXTS, "return_documents": True, "top_n": 3}
    told = server.http.post("/v1/rerank", json=body).json()["results"]
    scores, _ = EncoderEngine.load(folder).rerank("a b", TEXTS)
    order = sorted(range(len(TEXTS)), key=lambda i: -scores[i])[:3]
    assert [entry["index"] for entry in told] == order
    assert [entry["relevance_score"] for entry in told] == pytest.approx([scores[i] for i in order], abs=1e-5)
    assert told[0]["document"]["text"] == TEXTS[order[0]]


def test_a_client_that_leaves_is_forgotten(start: Any) -> None:
    server = start()
    desk = server.server.worker.desk
    step = desk.engine.step
    held: list[int] = []

    def slow() -> Any:
        import time

        time.sleep(0.2)
        held.append(1)
        return step()

    desk.engine.step = slow
    many = {"model": "tiny", "input": ["x" * 500] * 64}
    with pytest.raises(httpx.ReadTimeout):
        server.http.post("/v1/embeddings", json=many, timeout=0.5)
    for _ in range(100):
        if not desk.open and desk.idle:
            break
        import time

        time.sleep(0.05)
    assert not desk.open
    assert desk.idle
    assert len(held) < 20, "the engine went on for nobody"
    desk.engine.step = step
    assert server.http.post("/v1/embeddings", json={"model": "tiny", "input": "a"}).status_code == 200
