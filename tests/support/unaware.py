"""Generators that know nothing of ranks, in a module that doesn't speak of them; and one that asks by a helper."""

from __future__ import annotations

from h5flow.core import H5FlowGenerator
from support import asking


class Unaware(H5FlowGenerator):
    """Makes its slices, on each rank all of them."""

    number = 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, "i4")

    def next(self):
        self.number += 1
        return self.data_manager.reserve_data(self.dset_name, 2) if self.number < 4 else self.EMPTY


class AsksElsewhere(Unaware):
    """Has a function of another module ask for it."""

    def init(self):
        super().init()
        asking.number_of(self)
