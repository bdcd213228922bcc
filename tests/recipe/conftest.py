"""Three small stages that keep the whole contract, so that the walks are tested without any model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, Field

from arriero import stage as contract
from arriero.artifacts import InputPath, LicenseRecord
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, MatmulPoint, save_profile
from arriero.errors import Interrupted
from arriero.stage import (
    CorpusSpec,
    Input,
    Inputs,
    Outcome,
    Plan,
    Specs,
    SplitSpec,
    Stage,
    StageSettings,
    TokenSplitSpec,
    TokensSpec,
)

RUNS: list[str] = []
"""Which stages really ran, in order."""


def sheet(seconds: float = 2.0, memory: float = 100e6) -> Estimate:
    return Estimate(
        seconds=Quantity.band(seconds, 0.5, "s", "modelled", "test"),
        peak_memory=Quantity.band(memory, 0.1, "B", "modelled", "test"),
        flops=Quantity.exact(1e9, "FLOP", "modelled", "test"),
    )


class TextFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: InputPath = Field(description="the file")
    license: str = Field(default="unknown", description="its licence")


class Gather(Stage[Any]):
    """Copies texts."""

    kind, makes, help = "gather", "corpus", "Copy texts."

    class Settings(StageSettings):
        sources: list[TextFile] = Field(description="the texts", min_length=1)
        repeat: int = Field(default=1, ge=1, description="how often")
        patience: float = Field(
            default=0.0, ge=0, description="seconds to wait", json_schema_extra={"in_key": False}
        )

    def plan(self, settings: Any, specs: Specs, device: DeviceProfile) -> Plan:
        size = sum(source.path.stat().st_size for source in settings.sources) * settings.repeat
        return Plan(CorpusSpec(splits={"train": SplitSpec(documents=1, bytes=size)}), sheet())

    def run(self, settings: Any, inputs: Inputs, context: contract.Context) -> Outcome:
        RUNS.append("gather")
        text = "".join(source.path.read_text() for source in settings.sources) * settings.repeat
        marker = context.state / "begun"
        deadline = time.monotonic() + (0 if marker.exists() else settings.patience)
        marker.touch()
        while time.monotonic() < deadline:
            context.progress(1, 2, "texts", loss=1.5)
            if context.stop_requested():
                raise Interrupted("stopped while gathering; the same command continues")
            time.sleep(0.01)
        context.log(step=1, loss=0.5)
        (context.folder / "text.txt").write_text(text)
        licenses = [LicenseRecord(name=source.license, of=source.path.name) for source in settings.sources]
        return Outcome(
            CorpusSpec(splits={"train": SplitSpec(documents=1, bytes=len(text))}), {"note": "ok"}, licenses
        )


class Words(Stage[Any]):
    """Splits into words."""

    kind, makes, help = "words", "tokens", "Split into words."
    inputs: ClassVar[dict[str, Input]] = {"corpus": Input("corpus", "texts to split")}

    class Settings(StageSettings):
        lower: bool = Field(default=True, description="fold case")
        size: int = Field(default=10, ge=1, description="vocabulary")

    def plan(self, settings: Any, specs: Specs, device: DeviceProfile) -> Plan:
        size = specs["corpus"].splits["train"].bytes
        split = TokenSplitSpec(documents=1, tokens=size // 5, bytes=size)
        return Plan(
            TokensSpec(vocab_size=settings.size, splits={"train": split}), sheet(4.0, 300e6), ["a note"]
        )

    def run(self, settings: Any, inputs: Inputs, context: contract.Context) -> Outcome:
        RUNS.append("words")
        text = inputs["corpus"].file("text.txt").read_text()
        words = (text.lower() if settings.lower else text).split()
        context.count_flops(123.0)
        (context.folder / "words.txt").write_text("\n".join(words))
        split = TokenSplitSpec(documents=1, tokens=len(words), bytes=len(text))
        return Outcome(TokensSpec(vocab_size=settings.size, splits={"train": split}))


class Merge(Stage[Any]):
    """Puts word lists together."""

    kind, makes, help = "merge", "tokens", "Merge word lists."
    inputs: ClassVar[dict[str, Input]] = {"parts": Input("tokens", "word lists", many=True)}

    class Settings(StageSettings):
        sort: bool = Field(default=False, description="sort the words")

    def plan(self, settings: Any, specs: Specs, device: DeviceProfile) -> Plan:
        return Plan(specs["parts"][0], sheet(1.0))

    def run(self, settings: Any, inputs: Inputs, context: contract.Context) -> Outcome:
        RUNS.append("merge")
        words = [word for part in inputs["parts"] for word in part.file("words.txt").read_text().split()]
        (context.folder / "words.txt").write_text("\n".join(sorted(words) if settings.sort else words))
        split = TokenSplitSpec(documents=1, tokens=len(words), bytes=0)
        return Outcome(TokensSpec(vocab_size=1, splits={"train": split}))


TOY = {"gather": Gather, "words": Words, "merge": Merge}


@pytest.fixture
def toy_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The three stages in place of the real ones, and a made-up device profile."""
    monkeypatch.setattr(contract, "STAGES", dict.fromkeys(TOY, __name__))
    monkeypatch.setattr(contract, "_registry", dict(TOY))
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path / "home"))
    save_profile(made_up_profile())
    RUNS.clear()
    yield


def made_up_profile() -> DeviceProfile:
    from arriero.artifacts.host import cpu_name, usable_cores, version_facts
    from arriero.cost.device import measured_with

    return DeviceProfile(
        cpu=cpu_name(), cores=usable_cores(), threads=1, memory_bytes=8_000_000_000, measured_at="2026-11-21T00:00:00+00:00",
        versions={**version_facts(), **measured_with()}, matmul=[MatmulPoint(dtype="float32", m=64, k=64, n=64, flops_per_s=1e10)], attention=[], elementwise=[],
        copy_bytes_per_s=1e10, op_seconds=1e-5, optimizer_params_per_s=1e8, bf16_pays=False, process_bytes=200_000_000,
    )  # fmt: skip


RECIPE = """\
name: toy
stages:
  texts:
    kind: gather
    sources:
      - path: a.txt
        license: CC0-1.0
  words:
    inputs: {corpus: texts}
  both:
    kind: merge
    inputs: {parts: [words, words]}
"""


@pytest.fixture
def toy_recipe(toy_stages: None, tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("One two three. One two three.")
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path
