"""What ranks call for together, as values that are sent: changes of the structure, rows, communicators, the end."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import msgspec

from h5flow.data.file.changes import Change, SetAttributes
from h5flow.data.resource import Resource
from h5flow.errors import H5FlowError


class Call(msgspec.Struct, frozen=True):
    """What one rank calls for; those that belong together have the same resource."""


class ChangeStructure(Call, frozen=True):
    """Makes a change of the structure of the file."""

    RESOURCE: ClassVar[Resource] = Resource("structure")

    #: What the change is called in messages, and for `set_attrs`.
    name: str
    #: The change, where it can be sent to ranks that don't make it by themselves.
    pack: bytes | None = None
    #: The path of a group and its attributes, if the change sets any.
    sets_attributes: bool = False

    @classmethod
    def of(cls, change: Change) -> ChangeStructure:
        """Return the call for a change."""
        return cls(change.CALL, _packed(change), isinstance(change, SetAttributes))

    def change(self) -> Change:
        """Return the change. Raises `H5FlowError` if it couldn't be sent."""
        change: Change = _unpacked(self.pack, self.name)
        return change


class TakeCommunicator(Call, frozen=True):
    """Takes a communicator that is its taker's own."""

    RESOURCE: ClassVar[Resource] = Resource("communicator")


class EndLoop(Call, frozen=True):
    """Has no more slices."""

    RESOURCE: ClassVar[Resource] = Resource("end of loop")


class Stop(Call, frozen=True):
    """Has been asked to stop."""

    RESOURCE: ClassVar[Resource] = Resource("stop")


class Publish(Call, frozen=True):
    """Lets all ranks see what has been written."""

    RESOURCE: ClassVar[Resource] = Resource("written")

    #: Paths of the datasets that the rank has written to.
    changed: tuple[str, ...]
    #: The datasets for which the file has too few rows, and how many they need.
    too_short: dict[str, int]


class Append(Call, frozen=True):
    """Appends rows to a dataset, which is the resource, for the rank alone."""

    count: int


class Reserve(Call, frozen=True):
    """Makes the dataset, which is the resource, at least so long, for the rank from a row on."""

    start: int
    stop: int


def made(calls: tuple[Any, ...]) -> list[Any]:
    """Return the calls of those ranks that have made one."""
    return [call for call in calls if call is not None]


def _packed(arguments: Any) -> bytes | None:
    """Pickle the arguments of a call so that they can be sent; returns `None` if they can't."""
    try:
        return pickle.dumps(arguments)
    except (TypeError, AttributeError, pickle.PicklingError):
        return None


def _unpacked(arguments: bytes | None, name: str) -> Any:
    """Return the arguments of a call that another rank has made. Raises `H5FlowError` if they couldn't be sent."""
    if arguments is None:
        raise H5FlowError(f"{name} was called with what can't be sent to other ranks: call it on all of them")
    return pickle.loads(arguments)
