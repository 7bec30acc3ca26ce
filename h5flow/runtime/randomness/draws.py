"""The random generators of one component on one slice."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random


class Draws:
    """The generators of one component on one slice, made when they are used."""

    def __init__(self, seed: str) -> None:
        import hashlib

        self._seed = hashlib.sha256(seed.encode()).digest()
        self._numpy: Any = None
        #: The state of numpy's, if it has been in the place of the shared one since `numpy` was used last.
        self.saved: Saved | None = None

    @property
    def numpy(self) -> Any:
        """Return a `RandomState`."""
        import numpy as np

        if self._numpy is None:
            self._numpy = np.random.RandomState(np.frombuffer(self._seed, "u4"))
        if self.saved is not None:
            self._numpy.set_state(self.saved.state())
            self.saved = None
        return self._numpy

    def begin(self, shared: Any) -> None:
        """Bring a `RandomState` to the state of `numpy`."""
        import numpy as np

        if self._numpy is None:
            shared.seed(np.frombuffer(self._seed, "u4"))
        else:
            shared.set_state(self._numpy.get_state(legacy=False))

    @functools.cached_property
    def python(self) -> random.Random:
        """Return a generator of the kind of `random`."""
        import random

        return random.Random(self._seed)


class Saved:
    """The state of a `RandomState`: that of its bit generator, and the rest: a normal number that it has in store."""

    __slots__ = ("bits", "rest")

    def __init__(self, bits: bytes, rest: dict[str, Any]) -> None:
        self.bits = bits
        self.rest = rest

    def state(self) -> dict[str, Any]:
        """Return the state as `RandomState.set_state` takes it."""
        import numpy as np

        words = np.frombuffer(self.bits, "u4")
        return {**self.rest, "state": {"key": words[:-1], "pos": int(words[-1])}}


def outsiders() -> set[int]:
    """Return the threads that may draw without being at work for the workflow: those of who runs it."""
    return {threading.get_ident(), threading.main_thread().ident or 0}
