"""What can go wrong, each with a one-line message that names the thing, the place and the cure."""

from __future__ import annotations

import msgspec


class H5FlowError(RuntimeError):
    """Anything that is wrong with a workflow, its files or its use of the API."""

    def __str__(self) -> str:
        # KeyError, which a subclass mixes in, would show the message quoted.
        return str(self.args[0]) if self.args else ""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong in a workflow: where (`workflow.yaml:12:5`, may be empty), in what, and what."""

    place: str
    subject: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.subject, self.message) if part)


class ConfigError(H5FlowError):
    """A workflow that is wrong as written; `problems` lists all that was found, `str()` one a line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class UsageError(H5FlowError):
    """A command or call whose arguments don't fit together."""


class NoParallelFiles(UsageError, ValueError):
    """A file that ranks were to write together, with an h5py that can't."""


class DiscoveryError(H5FlowError):
    """A class that no module defines, that several define, or that isn't what the workflow needs."""


class FileError(H5FlowError, OSError):
    """A file that is missing, damaged, in use, or can't be written."""


class NotInFile(H5FlowError, KeyError):
    """A dataset, reference or group that the file doesn't have."""


class Gone(H5FlowError, ValueError):
    """Use of an object whose file was closed, or that is in its file no more."""


class RowsOutOfRange(H5FlowError, IndexError):
    """Rows that a dataset doesn't have."""


class DataMismatch(H5FlowError, ValueError):
    """Data whose shape or type doesn't fit the dataset it is meant for."""


class InvalidReference(H5FlowError, ValueError):
    """References that can't be stored, or that point to rows which don't exist."""


class DanglingReference(InvalidReference, IndexError):
    """A reference that was followed and points to a row which doesn't exist."""
