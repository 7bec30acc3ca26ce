"""What has become of many files: kept on rank 0, told while it goes on and at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from h5flow.jobs.inputs import FileJob


class FileOutcome(msgspec.Struct, frozen=True):
    """What has become of a file, by its number."""

    number: int
    kind: Literal["done", "failed", "stopped"]
    #: How far it got, or what went wrong.
    text: str
    #: The signal that has stopped it.
    signal: int | None = None


class Stop(msgspec.Struct, frozen=True):
    """A signal that came when no file was in work."""

    signal: int


class FarmReport:
    """The outcomes of `jobs`; those whose number isn't in `to_do` are skipped."""

    def __init__(
        self, jobs: Sequence[FileJob], to_do: Sequence[int], say: Callable[[str], None], *, fail_fast: bool, quiet: bool
    ) -> None:
        self._jobs, self._to_do = jobs, to_do
        self._say, self._quiet = say, quiet
        self._fail_fast = fail_fast
        self._outcomes: list[FileOutcome] = []
        self._started = time.perf_counter()
        #: The signal that has stopped some of the files.
        self.signal: int | None = None

    def receive(self, result: FileOutcome | Stop) -> bool:
        """Note a result, and say it; whether no more files shall be begun."""
        self.signal = self.signal or result.signal
        if isinstance(result, FileOutcome):
            self._outcomes.append(result)
            if not self._quiet:
                kind = "failed: " if result.kind == "failed" else ""
                counted = f"[{len(self._outcomes)}/{len(self._to_do)}]"
                self._say(f"{counted} {self._jobs[result.number].output}: {kind}{result.text}")
        failed = isinstance(result, FileOutcome) and result.kind == "failed"
        return self.signal is not None or (failed and self._fail_fast)

    @property
    def have_failed(self) -> bool:
        """Say whether any file has failed."""
        return bool(self._of("failed"))

    def tell(self) -> None:
        """Say how many files came to which end, and of each that isn't done, why."""
        done, stopped, failed = self._of("done"), self._of("stopped"), self._of("failed")
        if self._quiet and not (stopped or failed or self.signal):
            return
        self._say(f"{len(self._jobs)} files in {time.perf_counter() - self._started:.1f} s")
        self._count("done", len(done))
        self._count("skipped", len(self._jobs) - len(self._to_do), "whose output was there")
        self._count("not begun", len(self._to_do) - len(self._outcomes))
        for kind, outcomes in (("stopped", stopped), ("failed", failed)):
            self._count(kind, len(outcomes))
            for outcome in outcomes:
                job = self._jobs[outcome.number]
                self._say(f"    {job.input}: {outcome.text} (log: {job.log})")

    def _count(self, kind: str, count: int, note: str = "") -> None:
        if count:
            self._say(f"  {kind:9} {count:6,}  {note}".rstrip())

    def _of(self, kind: str) -> list[FileOutcome]:
        return sorted((outcome for outcome in self._outcomes if outcome.kind == kind), key=lambda found: found.number)
