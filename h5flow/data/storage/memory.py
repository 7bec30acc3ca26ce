"""Storage for what is found out about a file and isn't in it: a file in memory."""

from __future__ import annotations

import os

import h5py

from h5flow.data.storage.opening import FORMAT, writes_to_opened
from h5flow.data.storage.serial import SerialStorage


class MemoryStorage(SerialStorage):
    """An HDF5 file that is gone when it is closed."""

    def __init__(self) -> None:
        self.path = f"h5flow-{os.urandom(16).hex()}"
        self.file = h5py.File(self.path, "w", driver="core", backing_store=False, libver=FORMAT)
        self._writable = True
        self._writes = writes_to_opened(self.path)
