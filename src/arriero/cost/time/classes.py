"""What measured runs on one class of devices say of the others of it: factors on the data sheet's coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import yaml

from arriero.cost.hardware.table import Hardware
from arriero.cost.time.coefficients import NAMES, Coefficients


@dataclass(frozen=True)
class DeviceClass:
    """Factors by :data:`NAMES`, from a fit on ``rows`` measured steps; ``spread`` of log(measured / predicted) on
    models that the fit had not seen."""

    name: str
    members: tuple[str, ...]
    dtypes: tuple[str, ...]
    factors: dict[str, float]
    spread: float
    rows: int
    source: str

    def applied(self, sheet: Coefficients) -> Coefficients:
        """The data sheet's coefficients of a member, as runs of its class correct them."""
        factors = np.array([self.factors.get(name, 1.0) for name in NAMES])
        return sheet.scaled(
            factors, tier="same class", spread=self.spread, rows=self.rows, sources=(self.source,)
        )


def class_of(hardware: Hardware, dtype: str) -> DeviceClass | None:
    """The class whose runs tell of this device at this dtype, or None."""
    return next((one for one in _classes() if hardware.name in one.members and dtype in one.dtypes), None)


@lru_cache(maxsize=1)
def _classes() -> tuple[DeviceClass, ...]:
    text = files("arriero.cost").joinpath("tables", "time_classes.yaml").read_text(encoding="utf-8")
    return tuple(
        DeviceClass(
            name=name, members=tuple(row["members"]), dtypes=tuple(row["dtypes"]), factors=row["factors"],
            spread=row["spread"], rows=row["rows"], source=row["source"],
        )
        for name, row in yaml.safe_load(text).items()
    )  # fmt: skip
