"""A report of a run, made from its logs: what limited it, and pictures that show it.

`reading` makes a `Run` of log files, `verdict` judges it in words, `page` draws it.
"""

from h5flow.report.reading import read_run
from h5flow.report.run import Run
from h5flow.report.verdict import Verdict, judged

__all__ = ["Run", "Verdict", "judged", "read_run"]
