"""Loading what stages require into the cache of a slice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from h5flow.data import H5FlowDataManager
from h5flow.errors import NotInFile
from h5flow.telemetry import emit
from h5flow.telemetry.events import RequirementMissing
from h5flow.workflow import Requirement

#: Loads a requirement for rows of the source; `None` stands for the source itself.
Load = Callable[[Requirement | None, str, slice], Any]


class RequirementLoader:
    """Loads requirements through a data manager; says once of each that it can't be loaded.

    With `strict`, a requirement that can't be loaded is an error instead.
    """

    def __init__(self, data_manager: H5FlowDataManager, strict: bool = False) -> None:
        self._data_manager = data_manager
        self._strict = strict
        self._reported: set[Requirement] = set()

    def update(
        self,
        cache: dict[str, Any],
        source: str,
        rows: slice,
        requirements: Iterable[Requirement],
        load: Load | None = None,
    ) -> None:
        """Load the source rows and the requirements that `cache` doesn't have, with `load` if that is given."""
        load = load or self.load
        name = source
        try:
            if source not in cache:
                cache[source] = load(None, source, rows)
            for requirement in requirements:
                name = requirement.name
                if name not in cache:
                    cache[name] = load(requirement, source, rows)
        except Exception as error:
            error.__dict__.setdefault("h5flow_requirement", name)
            raise

    def load(self, requirement: Requirement | None, source: str, rows: slice) -> Any:
        """Load what `requirement` (`None`: the source) is for rows of `source`; `None` where the file lacks it."""
        if requirement is None:
            return self._data_manager[source, rows]
        path = list(requirement.path)
        try:
            if self._data_manager.ref_exists(source, path[0]):
                path.insert(0, source)
            if len(path) > 1:
                return self._data_manager.walk(path, rows, indices_only=requirement.index_only)
            if requirement.index_only:
                return np.arange(*rows.indices(len(self._data_manager.get_dset(path[0]))))
            return self._data_manager[path[0], rows]
        except NotInFile as error:
            if self._strict:
                raise
            if requirement not in self._reported:
                self._reported.add(requirement)
                emit(RequirementMissing(requirement=requirement.name, error=str(error)))
            return None
