from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.pipeline import texts as module
from arriero.data.pipeline.texts import FramedWriter, iter_framed, read_at
from arriero.errors import DamagedArtifactError

OBJECTS = st.lists(
    st.fixed_dictionaries({"id": st.text(max_size=5), "text": st.text(max_size=200)}), max_size=30
)


def write(path: Path, objects: list[Any]) -> Any:
    with FramedWriter(path) as writer:
        for value in objects:
            writer.add(value)
    return writer.places


@given(objects=OBJECTS, frame=st.integers(1, 500))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_what_is_written_is_read_in_order_and_by_place(
    tmp_path: Path, objects: list[dict[str, str]], frame: int
) -> None:
    path = tmp_path / "a.jsonl.zst"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FRAME_BYTES", frame)
        places = write(path, objects)
    assert list(iter_framed(path)) == objects
    assert [read_at(path, place) for place in places] == objects


def test_frames_are_cut_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAME_BYTES", 100)
    places = write(tmp_path / "a.zst", [{"text": "x" * 60}] * 6)
    assert len(set(places[:, 0])) == 3
    assert sorted(set(places[:, 1])) == [0, len('{"text":""}\n') + 60]


def test_equal_objects_give_equal_bytes(tmp_path: Path) -> None:
    objects = [{"text": f"{n} \u2028 é"} for n in range(2000)]
    write(tmp_path / "a.zst", objects)
    write(tmp_path / "b.zst", objects)
    assert (tmp_path / "a.zst").read_bytes() == (tmp_path / "b.zst").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_noticed(tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAME_BYTES", 2_000)
    path = tmp_path / "a.zst"
    places = write(path, [{"text": str(n) * 50} for n in range(300)])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    if share < 0.95:  # a frame without its last bytes may still give its text
        with pytest.raises(DamagedArtifactError):
            read_at(path, places[-1])
    if share:
        with pytest.raises(DamagedArtifactError):
            list(iter_framed(path))


def test_bad_bytes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    places = write(path, [{"text": str(n) * 50} for n in range(300)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedArtifactError):
        list(iter_framed(path))
    with pytest.raises(DamagedArtifactError):
        read_at(path, places[0])
