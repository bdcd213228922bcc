"""Settings of stages that train on files of examples, a share of them held out."""

from __future__ import annotations

from pydantic import Field

from arriero.artifacts import InputPath, LicenseRecord
from arriero.training.settings import TrainSettings


class FileDataSettings(TrainSettings):
    """The files, their licence, and what is held out of them."""

    data: list[InputPath] = Field(min_length=1, description="JSONL(.gz) files of examples, one a line")
    license: str = Field(
        default="unknown", min_length=1, description="licence of these files, for the lineage"
    )
    holdout_share: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the examples held out, chosen by a hash of the prompt (the source, the text)",
    )
    holdout_seed: int = Field(
        default=0, ge=0, lt=2**31, description="draws the held-out examples; not the stage's seed"
    )

    def licenses(self) -> list[LicenseRecord]:
        """What the data files are under."""
        return [LicenseRecord(name=self.license, of=path.name) for path in self.data]
