"""Personal data: found by rules with check digits, masked, counted by kind, never kept."""

from arriero.data.pii.editor import PiiEditor, PiiFilter, count_kinds, find
from arriero.data.pii.settings import PiiSettings

__all__ = ["PiiEditor", "PiiFilter", "PiiSettings", "count_kinds", "find"]
