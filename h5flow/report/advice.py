"""What would make a run quicker, by what has limited it."""

from __future__ import annotations

from h5flow.report.run import COMMITTER, GENERATOR, PREFETCHER
from h5flow.report.wording import named
from h5flow.report.work import ActorWork

MORE_RANKS = "more ranks: mpiexec -n 4 h5flow-async …, each has slices of its own"
LARGER_SLICES = (
    "larger slices, of several milliseconds each: chunk_size of the built-in loop, or what your generator yields"
)
MORE_SLICES = "smaller slices, so that there are more of them, or a longer run"
LONGER_RUN = "judge speed by a longer run: its start costs the same for any number of slices"
WHOLE_ARRAYS = "numpy on whole arrays instead of loops in Python: it is quicker, and lets other threads work meanwhile"
RANDOM_PER_STAGE = "runtime.random: per-stage, which gives each component draws of its own, others than before"
TRACEABLE = "the data manager's calls instead of h5py's objects (fh, get_dset), which can't be followed"
FEWER_COLLECTIVE_CALLS = "collective calls (reserve_data, write_ref) once a slice and late in it: there ranks wait"
PARALLEL_STORAGE = "runtime.storage: parallel, if rank 0 can't keep up with writing (it needs an h5py built with MPI)"
UNCHANGED_ROWS = "a dataset of its own for what a stage changes, where an earlier one, or a loader, reads those rows"
LOOK = "look in the timeline for where nobody is at work, and at what else the machine did then"


def own_datasets(actor: str) -> str:
    """Advise against waiting for other components to go first."""
    return (
        f"datasets of their own for {named(actor)} and the others: who appends to the same dataset, or reads rows that"
        " a later stage changes, waits until earlier slices are through"
    )


def pipelined(factor: float) -> str:
    """Advise against sequential mode."""
    return f"runtime.mode: pipelined, in which this could be up to {factor:.1f} times as fast"


def quicker_call(call: str) -> str:
    """Advise against a long `init` or `finish`."""
    return f"a quicker {call}"


def fewer_rows(rank: int, rows: float, usual: float) -> str:
    """Advise a rank that had more to do than the others."""
    return (
        f"less to do for rank {rank}, which had {rows:,.0f} rows, others {usual:,.0f}: smaller slices (chunk_size) are"
        " shared more evenly"
    )


def look_at_rank(rank: int, host: str) -> str:
    """Advise a rank that had as much to do as the others, and was slower."""
    return (
        f"a look at rank {rank} (host {host}): its rows are as many as those of others, but may take longer, or its"
        " processor is slower, or has other work"
    )


def on(actor: ActorWork) -> list[str]:
    """List advice for an actor that is at work most of the time."""
    if actor.name == PREFETCHER:
        return [
            f"runtime.loaders: {2 * actor.threads} (now {actor.threads}), threads that load ahead",
            "slices that begin and end where chunks of the file do (chunk_size: auto), or larger ones: a chunk is read"
            " and inflated as a whole",
            "pip install 'h5flow-async[fast]', which inflates gzip chunks outside of HDF5 (runtime.raw_chunks: true)",
        ]
    if actor.name == COMMITTER or actor.part == "write":
        return [
            "quicker compression, or none: -z lzf instead of gzip; pip install 'h5flow-async[fast]' deflates on the"
            " pipeline's threads (runtime.raw_chunks: true)",
            "one reserve_data, write_data and write_ref a slice instead of one a row, and narrower types",
        ]
    if actor.part == "load":
        return [
            f"what {named(actor.name)} requires put into the cache, under that name, by the stage that makes it: what"
            " is there already isn't loaded",
            "less to load: index_only where row numbers are enough, fewer fields, shorter chains of references",
        ]
    if actor.name == GENERATOR:
        return ["work moved from the generator's next to a first stage, which overlaps with the generator", MORE_RANKS]
    return [
        f"{named(actor.name)} split in two stages, which then work on different slices at once",
        WHOLE_ARRAYS,
        MORE_RANKS,
    ]
