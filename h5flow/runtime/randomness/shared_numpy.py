"""numpy's shared generator while a loop goes on: it asks whenever somebody is going to draw from it."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from h5flow.runtime.randomness.draws import Draws, Saved


class SharedNumpy:
    """numpy's shared generator, which calls `ask` whenever somebody is going to draw from it.

    An instance is the lock of the bit generator: each method of the generator takes it to draw. Of runs that go on
    at once, each has one around that of the run before.
    """

    #: Threads in which a bit generator is being exchanged, which is no draw.
    _exchanging = threading.local()
    #: Those that are in the place of the shared one, the last one around all others. They may end in any order.
    _stacked: ClassVar[list[SharedNumpy]] = []
    _stacking = threading.RLock()

    def __init__(self, ask: Callable[[], object]) -> None:
        import numpy as np

        self._ask = ask
        self._shared: Any = np.random.mtrand._rand
        self._bits: Any = self._chosen(_bit_generator())
        self._lock = threading.RLock()
        self._depth = 0
        #: The bit generator that was there before the loop, and the one that is there in it.
        self._inner: Any = None
        self._outer: Any = None
        self._ended = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Put itself between numpy and the bit generator for the duration of the loop."""
        with self._stacking:
            self._inner, self._outer = _bit_generator(), _behind(self._bits, self)
            self._put(self._outer)
            self._stacked.append(self)
        try:
            yield
        finally:
            with self._lock:
                self._ask = lambda: None
                self._back()
            with self._stacking:
                self._ended = True
                while self._stacked and self._stacked[-1]._ended:
                    last = self._stacked.pop()
                    if _bit_generator() is last._outer:
                        last._put(last._inner)

    def __enter__(self) -> None:
        self._begin()
        if self._depth == 1:
            self._bits.lock.__enter__()

    def __exit__(self, *_: object) -> None:
        if self._depth == 1:
            self._bits.lock.__exit__(None, None, None)
        self._end()

    # what the generator has its bit generator do without taking the lock

    def state(self) -> Any:
        """Return the state of the bit generator."""
        with self._turn():
            return self._bits.state

    def set_state(self, state: Any) -> None:
        """Set the state, and the normal number in store that a dictionary from a generator has."""
        with self._turn():
            if self._depth == 1:
                self._shared.set_state(state)
            else:
                self._bits.state = state

    def seed(self, seed: Any) -> None:
        """Seed the generator."""
        with self._turn():
            if self._depth == 1:
                self._shared.seed(seed)
            else:
                self._bits._legacy_seeding(seed)

    # turns, one inside the other where the generator's methods call each other

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._begin()
        try:
            yield
        finally:
            self._end()

    def _begin(self) -> None:
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            try:
                if not getattr(self._exchanging, "now", False):
                    self._before(self._ask())
            except BaseException:
                self._depth = 0
                self._lock.release()
                raise

    def _end(self) -> None:
        try:
            if self._depth == 1:
                self._after()
        finally:
            self._depth -= 1
            self._lock.release()

    # for those that exchange states

    def _chosen(self, bits: Any) -> Any:
        """Choose the bit generator to use during the loop instead of the one that there is."""
        return bits

    def _before(self, asked: Any) -> None:
        """Prepare the first of the turns; here there is nothing to prepare."""

    def _after(self) -> None:
        """Clean up after the last of the turns; here there is nothing to clean up."""

    def _back(self) -> None:
        """Clean up when the loop has ended; here there is nothing to clean up."""

    def _put(self, bits: Any) -> None:
        """Exchange the bit generator; the number in store, which that takes from the generator, is put back."""
        import numpy as np

        with self._lock:
            self._depth += 1
            self._exchanging.now = True
            try:
                state = self._shared.get_state(legacy=False)
                np.random.set_bit_generator(bits)  # type: ignore[attr-defined]
                if type(bits).__name__ == state["bit_generator"]:
                    self._shared.set_state(state)
            finally:
                self._exchanging.now = False
                self._depth -= 1


class NumpyOfEach(SharedNumpy):
    """Draws for the one that `ask` returns are made from the state of its own generator."""

    # `mt19937_state` is 624 words and an `int`.
    _SIZE = 4 * 625

    def __init__(self, ask: Callable[[], Draws | None]) -> None:
        super().__init__(ask)
        self._address = self._bits.ctypes.state_address
        #: Whose state is in the place of the shared one, which is kept meanwhile.
        self._resident: Draws | None = None
        self._kept: Saved | None = None
        #: The thread in which the state of the bit generator is left out.
        self._leaving_out = 0

    def state(self) -> Any:
        """Return the state of the bit generator."""
        if self._leaving_out == threading.get_ident():
            return {"bit_generator": "MT19937", "state": {}}
        return super().state()

    def set_state(self, state: Any) -> None:
        """Set the state, and the normal number in store that a dictionary from a generator has."""
        if self._leaving_out != threading.get_ident():
            super().set_state(state)

    def _chosen(self, bits: Any) -> Any:
        import numpy as np

        return bits if type(bits) is np.random.MT19937 else np.random.MT19937()

    def _before(self, asked: Draws | None) -> None:
        if asked is not self._resident or (asked is not None and asked.saved is None):
            if self._resident is None:
                self._kept = self._save()
            self._load(asked)

    def _after(self) -> None:
        if self._resident is not None:
            # At once, because `RandomState.set_state` drops the number in store, whosever it is, before it asks.
            self._resident.saved = self._save()

    def _back(self) -> None:
        self._before(None)

    # `RandomState` copies the state of its bit generator word by word, which takes 30 us; the memory is copied in 0.2.

    def _save(self) -> Saved:
        self._leaving_out = threading.get_ident()
        try:
            return Saved(ctypes.string_at(self._address, self._SIZE), self._shared.get_state(legacy=False))
        finally:
            self._leaving_out = 0

    def _load(self, draws: Draws | None) -> None:
        self._resident = draws
        saved = self._kept if draws is None else draws.saved
        if saved is None:
            assert draws is not None
            draws.begin(self._shared)
            return
        ctypes.memmove(self._address, saved.bits, self._SIZE)
        self._leaving_out = threading.get_ident()
        try:
            self._shared.set_state(saved.rest)
        finally:
            self._leaving_out = 0


def _bit_generator() -> Any:
    import numpy as np

    return np.random.get_bit_generator()  # type: ignore[attr-defined]


def _behind(bits: Any, lock: SharedNumpy) -> Any:
    """Make a bit generator that is another one but for its lock."""

    def look_up(_: object, name: str) -> Any:
        if name == "lock":
            return lock
        if name == "state":
            return lock.state()
        return lock.seed if name == "_legacy_seeding" else getattr(bits, name)

    def set_to(_: object, name: str, value: Any) -> None:
        if name == "state":
            lock.set_state(value)
        else:
            setattr(bits, name, value)

    kind = type(bits)
    return type(kind.__name__, (kind,), {"__getattribute__": look_up, "__setattr__": set_to})()


# Functions of `numpy.random` that are no methods of its generator, and the methods that do the same.
_NO_METHODS = {"seed": "seed", "ranf": "random_sample", "sample": "random_sample"}


@contextmanager
def functions_of_each(ask: Callable[[], Draws | None]) -> Iterator[None]:
    """Let functions of `numpy.random` use the generators that `ask` returns in the block, without waiting."""
    import numpy as np

    shared = np.random.mtrand._rand
    methods = {name: name for name, method in vars(np.random).items() if getattr(method, "__self__", None) is shared}
    methods |= _NO_METHODS
    before = {name: getattr(np.random, name) for name in methods}
    for name, method in methods.items():
        setattr(np.random, name, _of_own(ask, method, before[name]))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(np.random, name, function)


def _of_own(ask: Callable[[], Draws | None], method: str, function: Any) -> Any:
    @functools.wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:
        own = ask()
        return function(*args, **kwargs) if own is None else getattr(own.numpy, method)(*args, **kwargs)

    return asking
