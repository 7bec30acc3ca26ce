"""The random generators that all modules share: `np.random.normal()`, `random.random()` and the like.

What a component draws from them depends on everything that was drawn before, by whomever: a pipeline can't
reproduce that if there are two that draw. So either slices run one at a time, or each component gets draws of its own.

During a loop the functions of `numpy.random` and `random` are replaced by ones that ask who is calling. Functions that
a module has imported by name before (`from numpy.random import normal`) can't be; their draws are seen by what
they leave behind.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

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
        self._drawing: ContextVar[_Draws | None] = ContextVar("h5flow_draws", default=None)

    @contextmanager
    def loop(self) -> Iterator[None]:
        """During the loop."""
        with ExitStack() as stack:
            stack.enter_context(_replaced("random", self._python))
            stack.enter_context(_replaced("numpy.random", self._numpy))
            yield

    @contextmanager
    def of(self, component: str, number: int) -> Iterator[None]:
        """While a component works on a slice. Raises `H5FlowError` if something was drawn past it."""
        before = fingerprint()
        token = self._drawing.set(_Draws(f"{self._workflow}\0{component}\0{number}"))
        try:
            yield
        finally:
            self._drawing.reset(token)
        if fingerprint() != before:
            raise H5FlowError(
                "somebody draws from the shared random generator by a function that was imported by name; with"
                " runtime.random: per-stage it has to be called as np.random.… or random.…"
            )

    def _numpy(self, shared: Any) -> Any:
        draws = self._drawing.get()
        return shared if draws is None else draws.numpy

    def _python(self, shared: Any) -> Any:
        draws = self._drawing.get()
        return shared if draws is None else draws.python


class _Draws:
    """The generators of one component on one slice, made when they are used."""

    def __init__(self, seed: str) -> None:
        self._seed = hashlib.sha256(seed.encode()).digest()

    @functools.cached_property
    def numpy(self) -> Any:
        import numpy as np

        return np.random.RandomState(np.frombuffer(self._seed, "u4"))

    @functools.cached_property
    def python(self) -> random.Random:
        return random.Random(self._seed)


class DrawWatch:
    """Finds out which components draw from the shared generators.

    `at_work` names the component that calls; `drawn` is told of one that draws for the first time, and may raise.
    """

    def __init__(self, at_work: Callable[[], str | None], drawn: Callable[[str], None]) -> None:
        self.drawing: list[str] = []
        self._at_work = at_work
        self._drawn = drawn
        self._last = fingerprint()
        self._watched = ExitStack()
        self._watches_numpy = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """During the loop."""
        with self._watched:
            self._watched.enter_context(_replaced("random", self._noted))
            if "numpy.random" in sys.modules:
                self.watch_numpy()
            yield

    def watch_numpy(self) -> None:
        """Watch numpy's generator as well, unless it is already; takes as long as its import, if it is the first."""
        if not self._watches_numpy:
            self._watches_numpy = True
            self._watched.enter_context(_replaced("numpy.random", self._noted))

    def look(self, component: str) -> None:
        """A component has just been at work, alone: whatever has been drawn, it was this one."""
        now = fingerprint()
        if now != self._last:
            self._last = now
            self._note(component)

    def _noted(self, shared: Any) -> Any:
        component = self._at_work()
        if component is not None and component not in self.drawing:
            self._note(component)
        return shared

    def _note(self, component: str) -> None:
        if component not in self.drawing:
            self.drawing.append(component)
            self._drawn(component)


def fingerprint() -> tuple[Any, ...]:
    """What changes whenever something is drawn from the shared generators."""
    python = random.getstate()
    numbers = sys.modules.get("numpy.random")
    if numbers is None:
        return (python[1][-1], python[1][:2], python[2])
    _, key, position, has_gauss, gauss = numbers.get_state()
    return (python[1][-1], python[1][:2], python[2], position, key[0], key[1], has_gauss, gauss)


# Functions of `numpy.random` that are no methods of its generator, and the methods that do the same.
_NO_METHODS = {"seed": "seed", "ranf": "random_sample", "sample": "random_sample"}


@contextmanager
def _replaced(module_name: str, ask: Callable[[Any], Any]) -> Iterator[None]:
    """While the shared functions of a module ask for the object whose method is to be called instead."""
    module = importlib.import_module(module_name)
    shared = module.random.__self__
    functions = {
        name: name
        for name, method in vars(module).items()
        if getattr(method, "__self__", None) is shared and name not in ("get_state", "getstate")
    }
    if module_name == "numpy.random":
        functions |= _NO_METHODS
    before = {name: getattr(module, name) for name in functions}
    for name, method in functions.items():
        setattr(module, name, _asking(ask, shared, method, before[name]))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)


def _asking(ask: Callable[[Any], Any], shared: Any, name: str, function: Any) -> Any:
    @functools.wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:
        own = ask(shared)
        return function(*args, **kwargs) if own is shared else getattr(own, name)(*args, **kwargs)

    return asking
