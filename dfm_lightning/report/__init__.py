"""One page of results from the folders that tests, predictions and trainings leave."""

from dfm_lightning.report.command import report_runs

__all__ = ["report_runs"]
