"""All settings that decide on a part's bytes, and the objects that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from arriero.data.extract import ExtractSettings
from arriero.data.facts import FactsSettings
from arriero.data.filters.settings import FilterSettings
from arriero.data.pii.settings import PiiSettings

if TYPE_CHECKING:
    from arriero.data.pipeline.maker import Maker


class PartSettings(BaseModel):
    """What every worker is given, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extract: ExtractSettings
    filters: FilterSettings
    pii: PiiSettings | None
    facts: FactsSettings

    def make_maker(self) -> Maker:
        """Load the models and build what turns records into rows.

        Raises:
            ArrieroError: a file or a library is missing.
        """
        from arriero.data.extract import make_extractor
        from arriero.data.filters import build_editors, build_filters, measure_names
        from arriero.data.pii import PiiEditor, PiiFilter
        from arriero.data.pii.editor import COLUMN
        from arriero.data.pipeline.maker import Maker

        editors, filters = build_editors(self.filters), build_filters(self.filters)
        measures = measure_names(self.filters)
        if self.pii is not None:
            editors.append(PiiEditor(self.pii))
            if self.pii.max_per_1000_words is not None:
                filters.append(PiiFilter(self.pii))
                measures.append(COLUMN)
        return Maker(
            self.facts, make_extractor(self.extract), editors, filters, measures, self.extract.limits()
        )
