"""Pages, where there is plotly to make them."""

from __future__ import annotations

import importlib.util

import pytest

from h5flow.report.page import page

HAS_PLOTLY = importlib.util.find_spec("plotly") is not None
needs_plotly = pytest.mark.skipif(not HAS_PLOTLY, reason="NO PLOTLY: plotly isn't installed")


def is_drawn(run, verdict):
    """Whether there is a page of a run, where there can be one."""
    return not HAS_PLOTLY or verdict.run_id in page(run, verdict)
