"""The random generators that all modules share: `np.random.normal()`, `random.random()` and the like.

What a component draws from them depends on everything that was drawn before, by whomever: a pipeline can't
reproduce that if there are two that draw. So either slices run one at a time, or each component gets draws of its own.

During a loop whoever draws is asked for, however the draw is made. numpy's generator is a `RandomState`, of which each
method takes the lock of the bit generator: it gets one that asks. That holds for `np.random.normal` as for a
`normal` that was imported by name, and for `scipy` and `sklearn`, which take the generator itself. Python's has no such
place, so the functions of `random` are replaced, also where modules have imported them by name; other ways to
it (`random._inst`, a function kept in a class) are seen by what they leave behind.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, ClassVar

from h5flow.errors import H5FlowError


class Randomness:
    """Draws as they come: shared by all components."""

    shared = True

    def loop(self) -> AbstractContextManager[None]:
        """During the loop."""
        return nullcontext()

    def of(self, component: str, number: int) -> AbstractContextManager[None]:
        """While a component works on a slice."""
        return nullcontext()


class RandomnessPerStage(Randomness):
    """Draws of a component on a slice depend on the workflow's name, the component and the slice's number alone."""

    shared = False

    def __init__(self, workflow: str) -> None:
        self._workflow = workflow
        # In the threads of the run; `None`: no component is at work.
        self._drawing: ContextVar[_Draws | None] = ContextVar("h5flow_draws")
        self._python = _Python(self._own)
        self._outsiders = set[int]()
        self._past = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """During the loop."""
        self._outsiders = _outsiders()
        token = self._drawing.set(None)
        try:
            with self._python.loop(), _NumpyOfEach(self._own).loop(), _numpy_functions(self._own):
                yield
        finally:
            self._drawing.reset(token)

    @contextmanager
    def of(self, component: str, number: int) -> Iterator[None]:
        """While a component works on a slice. Raises `H5FlowError` if something was drawn past it."""
        token = self._drawing.set(_Draws(f"{self._workflow}\0{component}\0{number}"))
        try:
            yield
        finally:
            self._drawing.reset(token)
        if self._past or self._python.strayed():
            raise H5FlowError(
                "somebody draws from the shared random generator on a thread that is none of the workflow's, or by a"
                " function of random that was kept elsewhere than in a module; with runtime.random: per-stage nobody"
                " knows whose draws these are: give it a generator of its own (np.random.default_rng, random.Random)"
            )

    def _own(self) -> _Draws | None:
        try:
            return self._drawing.get()
        except LookupError:
            self._past = self._past or threading.get_ident() not in self._outsiders
            return None


class _Draws:
    """The generators of one component on one slice, made when they are used."""

    def __init__(self, seed: str) -> None:
        self._seed = hashlib.sha256(seed.encode()).digest()
        self._numpy: Any = None
        #: The state of numpy's, if it has been in the place of the shared one since `numpy` was used last.
        self.saved: _Saved | None = None

    @property
    def numpy(self) -> Any:
        """A `RandomState`."""
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
        """A generator of the kind of `random`."""
        return random.Random(self._seed)


class DrawWatch:
    """Finds out which components draw from the shared generators.

    `at_work` names the component that calls; `drawn` is told of one that draws for the first time, and may raise.
    `strayed` is told of draws of which nobody knows whose they are, and may raise.
    """

    def __init__(
        self, at_work: Callable[[], str | None], drawn: Callable[[str], None], strayed: Callable[[], None]
    ) -> None:
        self.drawing: list[str] = []
        self._at_work = at_work
        self._drawn = drawn
        self._strayed = strayed
        self._python = _Python(self._note_at_work)
        self._stray = False
        self._error: H5FlowError | None = None
        self._outsiders = set[int]()
        self._watched = ExitStack()
        self._watching = self._watches_numpy = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """During the loop."""
        self._outsiders = _outsiders()
        with self._watched:
            self._watched.enter_context(self._python.loop())
            if "numpy.random" in sys.modules:
                self.watch_numpy()
            self._watching = True
            yield
        self._watching = False

    def watch_numpy(self) -> None:
        """Watch numpy's generator as well, unless it is already; takes as long as its import, if it is the first."""
        if not self._watches_numpy:
            self._watches_numpy = True
            self._watched.enter_context(_Numpy(self._note_at_work).loop())

    def look(self, component: str) -> None:
        """A component has just been at work. Raises what it was told before, should the component have caught that."""
        if not self._watching:
            return
        if self._error is not None:
            raise self._error
        if self._python.strayed() or self._stray:
            self._stray = False
            self._tell(self._strayed)
            self._note(component)  # it was alone, or `strayed` would have raised
        if not self._watches_numpy and "numpy.random" in sys.modules:
            # It has imported numpy's generator, and perhaps drawn already.
            self.watch_numpy()
            self._note(component)

    def _note_at_work(self) -> None:
        component = self._at_work()
        if component is not None:
            self._note(component)
        elif threading.get_ident() not in self._outsiders:
            self._stray = True
            self._tell(self._strayed)

    def _note(self, component: str) -> None:
        if component not in self.drawing:
            self.drawing.append(component)
            self._tell(lambda: self._drawn(component))

    def _tell(self, told: Callable[[], None]) -> None:
        try:
            told()
        except H5FlowError as error:
            self._error = error
            raise


def _outsiders() -> set[int]:
    """Threads that may draw without being at work for the workflow: those of who runs it."""
    return {threading.get_ident(), threading.main_thread().ident or 0}


# numpy


class _Numpy:
    """numpy's shared generator, which calls `ask` whenever somebody is going to draw from it.

    An instance is the lock of the bit generator: each method of the generator takes it to draw.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        import numpy as np

        self._ask = ask
        self._shared: Any = np.random.mtrand._rand
        self._bits: Any = self._chosen(_bit_generator())
        self._lock = threading.RLock()
        self._depth = 0

    @contextmanager
    def loop(self) -> Iterator[None]:
        """During the loop."""
        before = _bit_generator()
        behind = _behind(self._bits, self)
        self._put(behind)
        try:
            yield
        finally:
            with self._lock:
                self._ask = lambda: None
                self._back()
                if _bit_generator() is behind:
                    self._put(before)

    def __enter__(self) -> None:
        self._begin()
        if self._depth == 1:
            self._bits.lock.acquire()

    def __exit__(self, *_: object) -> None:
        if self._depth == 1:
            self._bits.lock.release()
        self._end()

    # what the generator has its bit generator do without taking the lock

    def state(self) -> Any:
        """The state of the bit generator."""
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
        """The bit generator to use during the loop instead of the one that there is."""
        return bits

    def _before(self, asked: Any) -> None:
        """Before the first of the turns."""

    def _after(self) -> None:
        """After the last of the turns."""

    def _back(self) -> None:
        """The loop has ended."""

    def _put(self, bits: Any) -> None:
        """Exchange the bit generator; the number in store, which that takes from the generator, is put back."""
        import numpy as np

        with self._lock:
            self._depth += 1
            try:
                state = self._shared.get_state(legacy=False)
                np.random.set_bit_generator(bits)  # type: ignore[attr-defined]
                if type(bits).__name__ == state["bit_generator"]:
                    self._shared.set_state(state)
            finally:
                self._depth -= 1


class _Saved:
    """The state of a `RandomState`: that of its bit generator, and the rest: a normal number that it has in store."""

    __slots__ = ("bits", "rest")

    def __init__(self, bits: bytes, rest: dict[str, Any]) -> None:
        self.bits = bits
        self.rest = rest

    def state(self) -> dict[str, Any]:
        """As `RandomState.set_state` takes it."""
        import numpy as np

        words = np.frombuffer(self.bits, "u4")
        return {**self.rest, "state": {"key": words[:-1], "pos": int(words[-1])}}


class _NumpyOfEach(_Numpy):
    """Draws for the one that `ask` returns are made from the state of its own generator."""

    # `mt19937_state` is 624 words and an `int`.
    _SIZE = 4 * 625

    def __init__(self, ask: Callable[[], _Draws | None]) -> None:
        super().__init__(ask)
        self._address = self._bits.ctypes.state_address
        #: Whose state is in the place of the shared one, which is kept meanwhile.
        self._resident: _Draws | None = None
        self._kept: _Saved | None = None
        #: The thread in which the state of the bit generator is left out.
        self._leaving_out = 0

    def state(self) -> Any:
        """The state of the bit generator."""
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

    def _before(self, asked: _Draws | None) -> None:
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

    def _save(self) -> _Saved:
        self._leaving_out = threading.get_ident()
        try:
            return _Saved(ctypes.string_at(self._address, self._SIZE), self._shared.get_state(legacy=False))
        finally:
            self._leaving_out = 0

    def _load(self, draws: _Draws | None) -> None:
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


def _behind(bits: Any, lock: _Numpy) -> Any:
    """A bit generator that is another one but for its lock."""

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
def _numpy_functions(ask: Callable[[], _Draws | None]) -> Iterator[None]:
    """While the functions of `numpy.random` use the generators that `ask` returns, for which nobody has to wait."""
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


def _of_own(ask: Callable[[], _Draws | None], method: str, function: Any) -> Any:
    @functools.wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:
        own = ask()
        return function(*args, **kwargs) if own is None else getattr(own.numpy, method)(*args, **kwargs)

    return asking


# Python


class _Python:
    """Python's shared generator, which calls `ask` whenever a function of `random` is going to draw from it.

    Draws for the one that `ask` returns, if it does, are made from its own generator.
    """

    #: The last one whose loop has begun.
    current: ClassVar[_Python | None] = None

    def __init__(self, ask: Callable[[], _Draws | None]) -> None:
        self._ask = ask
        self._lock = threading.RLock()
        self._position = _position()
        self._strayed = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """During the loop."""
        before, _Python.current = _Python.current, self
        self._position = _position()
        places = _places()
        for variables, name, function in places:
            variables[name] = _ASKING[id(function)]
        try:
            yield
        finally:
            for variables, name, function in places:
                if variables.get(name) is _ASKING[id(function)]:
                    variables[name] = function
            _Python.current = before

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of `random`."""
        own = self._ask()
        if own is not None:
            return getattr(own.python, function.__name__)(*args, **kwargs)
        with self._lock:
            self._look()
            try:
                return function(*args, **kwargs)
            finally:
                self._position = _position()

    def strayed(self) -> bool:
        """Whether something has been drawn without asking since the last time."""
        # While somebody draws there is nothing to see; they have looked before.
        if _position() != self._position and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        strayed, self._strayed = self._strayed, False
        return strayed

    def _look(self) -> None:
        now = _position()
        if now != self._position:
            self._position = now
            self._strayed = True


def _asking(function: Any) -> Any:
    @functools.wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:
        current = _Python.current
        return function(*args, **kwargs) if current is None else current.call(function, args, kwargs)

    return asking


_PYTHON: Any = random._inst
_FUNCTIONS = [function for function in vars(random).values() if getattr(function, "__self__", None) is _PYTHON]
# One for each for good, since a module that is imported during a loop keeps it.
_ASKING = {id(function): _asking(function) for function in _FUNCTIONS}


def _places() -> list[tuple[dict[str, Any], str, Any]]:
    """Where modules have functions of `random`: in which variables, by what name, and which."""
    found = []
    for module in tuple(sys.modules.values()):
        variables = getattr(module, "__dict__", None)
        # Most have none, and that is seen ten times as fast without looking at each variable.
        if type(variables) is dict and not _ASKING.keys().isdisjoint(map(id, variables.values())):
            found += [(variables, name, value) for name, value in variables.items() if id(value) in _ASKING]
    return found


def _reading_position() -> Callable[[], object]:
    """A function that returns what changes whenever something is drawn from Python's shared generator."""
    # As in `_randommodule.c`: `int index; uint32_t state[624]`. To copy it all takes a hundred times as long.
    words = (ctypes.c_uint32 * 4).from_address(id(_PYTHON) + object.__basicsize__)
    state = _PYTHON.getstate()[1]
    if tuple(words) == (state[-1], *state[:3]):
        memory = memoryview(words).cast("B")
        return lambda: (memory.tobytes(), _PYTHON.gauss_next)
    return lambda: _PYTHON.getstate()


_position = _reading_position()
