"""Finding out who draws from the shared generators."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from h5flow.errors import H5FlowError
from h5flow.runtime.randomness.draws import outsiders

if TYPE_CHECKING:
    from h5flow.runtime.randomness.shared_python import SharedPython


class DrawWatch:
    """Finds out which components draw from the shared generators, as soon as these have been imported.

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
        self._python: SharedPython | None = None
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
            self._watch_imported()
            self._watching = True
            yield
        self._watching = False

    @property
    def watches_all(self) -> bool:
        """Say whether both generators are watched, whoever imports them later."""
        return self._watches_numpy and self._python is not None

    def watch_all(self) -> None:
        """Watch both generators from now on; takes as long as their imports, if these are the first."""
        self._watch_python()
        self._watch_numpy()

    def _watch_imported(self) -> bool:
        """Watch generators that have been imported; says whether one of them is new, and may have been drawn from."""
        drawn = False
        if self._python is None and "random" in sys.modules:
            from h5flow.runtime.randomness.shared_python import is_as_imported

            drawn = not is_as_imported()
            self._watch_python()
        if not self._watches_numpy and "numpy.random" in sys.modules:
            drawn = True
            self._watch_numpy()
        return drawn

    def _watch_python(self) -> None:
        from h5flow.runtime.randomness.shared_python import SharedPython

        if self._python is None:
            self._python = SharedPython(self._note_at_work)
            self._watched.enter_context(self._python.loop())

    def _watch_numpy(self) -> None:
        from h5flow.runtime.randomness.shared_numpy import SharedNumpy

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
        if self._stray or (self._python is not None and self._python.strayed()):
            self._stray = False
            self._tell(self._strayed)
            self._note(component)  # it was alone, or `strayed` would have raised
        if not self.watches_all and self._watch_imported():
            # It has imported a generator, and perhaps drawn already.
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
