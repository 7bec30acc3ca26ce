"""Until when a data file is needed: as long as somebody who uses it is there."""

from __future__ import annotations

import os
import weakref

from h5flow.data.file.data_file import DataFile


class KeepAlive:
    """Held by all who use a data file: managers and the h5py objects that they hand out.

    When none of them is left, and at the latest when the interpreter exits, what is buffered is written and the
    file closed. The data file itself can't see to that: it and its open files refer to each other, so
    it would be freed late, and at exit not at all.
    """

    def __init__(self, file: DataFile) -> None:
        self.file = file
        weakref.finalize(self, _end, file, os.getpid())


def _end(file: DataFile, process: int) -> None:
    # A forked process has the parent's buffer, which only the parent may write.
    if os.getpid() == process:
        file.abandon(for_others=True)
