"""The report of a run: one self-contained HTML page, and the same as data."""

from arriero.recipe.report.data import ReportData, ScoreSheet, StageLine
from arriero.recipe.report.page import report_json, write_report

__all__ = ["ReportData", "ScoreSheet", "StageLine", "report_json", "write_report"]
