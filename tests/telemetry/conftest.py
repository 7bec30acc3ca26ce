"""Runs whose logs are looked at."""

from __future__ import annotations

import pytest


@pytest.fixture
def folder(parts):
    """The folder of the workflow that `told` runs."""
    return parts
