"""Waking a rank on the same machine that has been sent a message, since MPI has no way to sleep until one comes.

To look for messages again and again costs processor time, and to look for them rarely costs latency. So who sends one
to a rank on the same machine rings as well: an empty datagram, for which that rank can wait. Those on other machines
have to look.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

_LOOPBACK = "127.0.0.1"
_TRY = 1.0  # seconds


class Doorbell:
    """The doorbells of all ranks of a communicator, of which this rank answers its own. Making it is collective."""

    def __init__(self, comm: Intracomm) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_LOOPBACK, 0))
        self._socket.setblocking(False)
        self._rank: int = comm.Get_rank()
        here = (socket.gethostname(), self._socket.getsockname()[1])
        others = comm.allgather(here)
        self._ports = {rank: port for rank, (host, port) in enumerate(others) if host == here[0]}
        for rank in self._ports:
            self.ring(rank)
        heard = self._count(len(self._ports))
        #: Whether each rank is woken when it is sent something, so that it needn't look by itself.
        self.everywhere = all(comm.allgather(heard == len(self._ports) == comm.Get_size()))

    def _count(self, expected: int) -> int:
        """Count who rings within a short time."""
        heard = 0
        while heard < expected and self._rings(_TRY):
            heard += self._drain()
        return heard

    def _rings(self, seconds: float) -> bool:
        # Not `poll`, which counts in milliseconds.
        return bool(select.select([self._socket], [], [], seconds)[0])

    def ring(self, rank: int) -> None:
        """Wake a rank, if it is on this machine."""
        port = self._ports.get(rank)
        if port is not None:
            # A full buffer means that the rank will wake up.
            with contextlib.suppress(OSError):
                self._socket.sendto(b"", (_LOOPBACK, port))

    def wait(self, seconds: float) -> bool:
        """Wait until somebody rings, but not longer than so; says whether anybody has."""
        if not self._rings(seconds):
            return False
        self._drain()
        return True

    def _drain(self) -> int:
        heard = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)
                heard += 1
        return heard

    def close(self) -> None:
        """Stop answering."""
        self._socket.close()
