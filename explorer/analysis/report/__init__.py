"""The report: one HTML page of runs, drawn by Bokeh."""

from explorer.analysis.report.command import command_of, overrides_of
from explorer.analysis.report.compared import comparison_section
from explorer.analysis.report.page import report_page

__all__ = ["command_of", "comparison_section", "overrides_of", "report_page"]
