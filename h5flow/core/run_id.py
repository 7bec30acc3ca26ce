"""What a job is called in its logs and in its output."""

from __future__ import annotations

import secrets
import time


def new_run_id() -> str:
    """A name that no other job has; names sort by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
