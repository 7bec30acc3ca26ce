"""How many slices, and how many bytes of them, may be on their way at once."""

from __future__ import annotations

#: What slices may hold besides the first one, in any process.
SPARE = 2 << 20


class Budget:
    """Counts the slices in flight and what their caches hold.

    A slice enters when its number is handed out, is charged for what is loaded for it, and leaves when the last
    stage is done with it. One slice always passes, however large it is. `spare` is what slices may hold besides the
    first one, where that is bounded instead of the `size` of all of them; batches, which save less, get less of it.
    """

    def __init__(self, slices: int | None = None, size: int | None = None, spare: int | None = None) -> None:
        self.slices = slices
        self.size = size
        self.spare = spare
        self._charged: dict[int, int] = {}
        self._bytes = 0
        self._expected = 0

    @property
    def in_flight(self) -> int:
        """Return the number of slices in flight."""
        return len(self._charged)

    @property
    def bytes(self) -> int:
        """Return what they are charged for, in bytes."""
        return self._bytes

    def admits(self) -> bool:
        """Say whether one more slice may enter."""
        if not self._charged:
            return True
        return (self.slices is None or len(self._charged) < self.slices) and self._has_room()

    def room(self) -> int | None:
        """Say how many slices may enter together when none is in flight, at least one; `None` for any number."""
        bounds = [] if self.slices is None else [self.slices]
        limit = self.size if self.spare is None else self._expected + SPARE
        if limit is not None and self._expected:
            bounds.append(limit // self._expected)
        return max(1, min(bounds)) if bounds else None

    def may_load(self, number: int) -> bool:
        """Say whether something may be loaded for a slice in flight: there is room, or it is the oldest one."""
        return self._has_room() or number == next(iter(self._charged))

    def grant(self, memory: int) -> None:
        """Grant slices that share `spare` an eighth of `memory`, the bytes that the process takes with one."""
        if self.spare is not None:
            self.spare = max(SPARE, memory // 8)

    def enter(self, number: int) -> None:
        """Note that a slice enters."""
        self._charged[number] = 0

    def reserve(self, number: int) -> None:
        """Note that something is going to be loaded for a slice; until charged, it counts as much as is expected."""
        self._set(number, self._expected)

    def charge(self, number: int, size: int) -> None:
        """Note what a slice in flight holds now, in bytes."""
        self._set(number, size)
        # The next ones are expected to be like the larger ones of late.
        self._expected = max(size, self._expected - self._expected // 8)

    def leave(self, number: int) -> None:
        """Note that a slice is done."""
        self._bytes -= self._charged.pop(number)

    def _set(self, number: int, size: int) -> None:
        self._bytes += size - self._charged[number]
        self._charged[number] = size

    def _has_room(self) -> bool:
        limit = self.size if self.spare is None else self._expected + self.spare
        return limit is None or self._bytes + self._expected <= limit
