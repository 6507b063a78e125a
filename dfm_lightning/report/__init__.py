"""One page of results, from the folders of tests, predictions and trainings."""

from dfm_lightning.report.command import report_runs

__all__ = ["report_runs"]
