"""The resources of the workflow that is running."""

from __future__ import annotations

from typing import Any

#: Class name → live resource. The same dict all the time; emptied at the start of each workflow.
resources: dict[str, Any] = {}
