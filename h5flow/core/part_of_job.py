"""What a workflow has to do with the others of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

    from h5flow.core.provenance import Provenance
    from h5flow.data.file.output_file import OutputFile


class PartOfJob(msgspec.Struct, frozen=True):
    """A workflow by itself, if nothing is said; else one of several on an `output` that the job publishes."""

    output: OutputFile | None = None
    #: The ranks that run the job, `None` for those that were started.
    comm: Intracomm | None = None
    #: Says in the file what made it.
    provenance: Provenance | None = None
    #: What is to be dropped beside what the workflow file says.
    drop: tuple[str, ...] = ()
    #: Whether it is the first, and the last workflow.
    first: bool = True
    last: bool = True
