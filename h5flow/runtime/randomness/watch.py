"""Finding out who draws from the shared generators."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from h5flow.errors import H5FlowError
from h5flow.runtime.randomness.draws import outsiders
from h5flow.runtime.randomness.shared_numpy import SharedNumpy
from h5flow.runtime.randomness.shared_python import SharedPython


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
        self._python = SharedPython(self._note_at_work)
        self._stray = False
        self._error: H5FlowError | None = None
        self._outsiders = set[int]()
        self._watched = ExitStack()
        self._watching = self._watches_numpy = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Watch draws for the duration of the loop."""
        self._outsiders = outsiders()
        with self._watched:
            self._watched.enter_context(self._python.loop())
            if "numpy.random" in sys.modules:
                self.watch_numpy()
            self._watching = True
            yield
        self._watching = False

    @property
    def watches_all(self) -> bool:
        """Say whether numpy's generator is watched, too."""
        return self._watches_numpy

    def watch_numpy(self) -> None:
        """Watch numpy's generator as well, unless it is already; takes as long as its import, if it is the first."""
        if not self._watches_numpy:
            self._watches_numpy = True
            self._watched.enter_context(SharedNumpy(self._note_at_work).loop())

    def look(self, component: str) -> None:
        """Note that a component has just been at work.

        Raises what it was told before, should the component have caught that.
        """
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
