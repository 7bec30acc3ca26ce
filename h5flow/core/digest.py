"""SHA-256 without OpenSSL, which `hashlib` loads, and that takes longer than all that is hashed here.

As the standard library's `random` does.
"""

from __future__ import annotations

try:
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
    except ImportError:
        from hashlib import sha256

__all__ = ["sha256"]
