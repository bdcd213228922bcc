from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from arriero.data.corpus import Corpus
from arriero.errors import ArrieroError, DamagedArtifactError
from arriero.tokenization.texts import corpus_files, iter_texts

TEXTS = [f"text {n}, with an é and a \u2028 in it" * 40 for n in range(30)]


def lines(texts: list[str]) -> list[bytes]:
    return [
        json.dumps({"id": str(n), "text": t, "source": "s"}).encode() + b"\n" for n, t in enumerate(texts)
    ]


def frames(texts: list[str], size: int = 4) -> bytes:
    packer, found = zstandard.ZstdCompressor(write_checksum=True), lines(texts)
    return b"".join(packer.compress(b"".join(found[n : n + size])) for n in range(0, len(found), size))


def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    for n in (2, 0, 1):
        (tmp_path / f"train-{n:05d}.jsonl.zst").write_bytes(frames(TEXTS[10 * n : 10 * n + 10]))
    (tmp_path / "validation-00000.jsonl.zst").write_bytes(frames(TEXTS[:2]))
    (tmp_path / "training-00000.jsonl.zst").write_bytes(b"something else")
    assert [path.name[6:11] for path in corpus_files(tmp_path, "train")] == ["00000", "00001", "00002"]
    assert list(iter_texts(tmp_path, "train")) == TEXTS
    corpus = Corpus(tmp_path)
    assert corpus.splits == ["train", "validation"]
    assert [document.text for document in corpus.iter_documents("train")] == TEXTS


def test_one_gzip_file_is_read_still(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "train.jsonl.gz", "wb") as file:
        file.writelines(lines(TEXTS))
    assert list(iter_texts(tmp_path, "train")) == TEXTS
    assert [document.text for document in Corpus(tmp_path).iter_documents("train")] == TEXTS


@pytest.mark.parametrize("left", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", ["train-00000.jsonl.zst", "train.jsonl.gz"])
def test_a_file_cut_short_is_noticed(tmp_path: Path, name: str, left: float) -> None:
    data = frames(TEXTS, 100) if name.endswith("zst") else gzip.compress(b"".join(lines(TEXTS)))
    (tmp_path / name).write_bytes(data[: max(5, int(left * len(data)))])
    with pytest.raises(DamagedArtifactError, match="damaged or cut short"):
        list(iter_texts(tmp_path, "train"))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="holds no split 'train'"):
        list(iter_texts(tmp_path, "train"))
    with pytest.raises(ArrieroError, match="holds no corpus"):
        Corpus(tmp_path)
    for n in (0, 2):
        (tmp_path / f"train-{n:05d}.jsonl.zst").write_bytes(frames(TEXTS))
    with pytest.raises(DamagedArtifactError, match="lacks train-00001"):
        list(iter_texts(tmp_path, "train"))


def test_a_line_that_is_no_document_is_said(tmp_path: Path) -> None:
    (tmp_path / "train-00000.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "a"}\n["b"]\n'))
    with pytest.raises(DamagedArtifactError, match="no document"):
        list(iter_texts(tmp_path, "train"))
