"""Draws of each component's own for each slice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from h5flow.errors import H5FlowError
from h5flow.runtime.randomness.as_drawn import Randomness
from h5flow.runtime.randomness.draws import Draws, outsiders
from h5flow.runtime.randomness.shared_numpy import NumpyOfEach, functions_of_each
from h5flow.runtime.randomness.shared_python import SharedPython


class RandomnessPerStage(Randomness):
    """Draws of a component on a slice depend on the workflow's name, the component and the slice's number alone."""

    shared = False

    def __init__(self, workflow: str) -> None:
        self._workflow = workflow
        # In the threads of the run; `None`: no component is at work.
        self._drawing: ContextVar[Draws | None] = ContextVar("h5flow_draws")
        self._python = SharedPython(self._own)
        self._outsiders = set[int]()
        self._past = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Give components draws of their own for the duration of the loop."""
        self._outsiders = outsiders()
        token = self._drawing.set(None)
        try:
            with self._python.loop(), NumpyOfEach(self._own).loop(), functions_of_each(self._own):
                yield
        finally:
            self._drawing.reset(token)

    @contextmanager
    def of(self, component: str, number: int) -> Iterator[None]:
        """Give a component its draws on a slice in the block. Raises `H5FlowError` if something was drawn past it."""
        token = self._drawing.set(Draws(f"{self._workflow}\0{component}\0{number}"))
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

    def _own(self) -> Draws | None:
        try:
            return self._drawing.get()
        except LookupError:
            self._past = self._past or threading.get_ident() not in self._outsiders
            return None
