"""Several inputs, each with an output of its own: which files are meant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from h5flow.errors import UsageError
from h5flow.workflow.spelling import did_you_mean

_PLACEHOLDERS: dict[str, Callable[[Path], str]] = {
    "stem": lambda path: path.stem,
    "name": lambda path: path.name,
    "parent": lambda path: str(path.parent),
}
_KNOWN = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
_IN_BRACES = r"\{([^{}]*)\}"


class FileJob(msgspec.Struct, frozen=True):
    """An input and the output that is made of it."""

    input: str
    output: str

    @property
    def log(self) -> str:
        """Return the name of the file that says how it went."""
        return f"{self.output}.log"

    @property
    def is_done(self) -> bool:
        """Say whether the output is there, which has its name only when it is complete."""
        return Path(self.output).is_file()

    @property
    def was_begun(self) -> bool:
        """Say whether the file has been worked on before."""
        return Path(self.log).is_file()


def are_several(inputs: Sequence[str], output: str) -> bool:
    """Say whether each input is to get an output of its own, though there may be one only."""
    return len(inputs) > 1 or has_placeholder(output) or any(_is_pattern(name) for name in inputs)


def has_placeholder(output: str) -> bool:
    """Say whether the name of an output is made from that of its input."""
    return any(name in _PLACEHOLDERS for name in re.findall(_IN_BRACES, output))


def file_jobs_of(inputs: Sequence[str], output: str) -> list[FileJob]:
    """List inputs by name or pattern, each with its output, in the order in which they are given.

    Of files that are themselves made of others, as when outputs lie beside inputs and a pattern finds both, there
    are no outputs. Raises `UsageError` if there are no files, or outputs that aren't one for each of them.
    """
    files = _expanded(inputs)
    if not files:
        raise UsageError(f"output '{output}' is named for an input, but there is none: give -i IN.h5")
    made = [FileJob(file, _filled(output, file)) for file in files]
    if len(files) > 1 and not has_placeholder(output):
        raise UsageError(
            f"{len(files)} inputs, but one output '{output}': put {_KNOWN} of the input in its name,"
            " as in 'reco/{stem}.h5'"
        )
    for job in made:
        if os.path.abspath(job.output) == os.path.abspath(job.input):  # noqa: PTH100 - links stay as they are
            raise UsageError(f"input '{job.input}' would be its own output: choose another than '{output}'")
    produced = {os.path.abspath(job.output + end) for job in made for end in ("", ".partial", ".log")}  # noqa: PTH100
    made = [job for job in made if os.path.abspath(job.input) not in produced]  # noqa: PTH100
    _check_one_for_each(made, output)
    return made


def _check_one_for_each(made: list[FileJob], pattern: str) -> None:
    """Raise `UsageError` for two inputs that would have the same output."""
    found: dict[str, FileJob] = {}
    for job in made:
        other = found.setdefault(os.path.realpath(job.output), job)
        if other is not job:
            raise UsageError(
                f"inputs '{other.input}' and '{job.input}' would both give '{job.output}': put more of"
                f" {_KNOWN} in '{pattern}'"
            )


def _is_pattern(name: str) -> bool:
    import glob

    return glob.has_magic(name) and not Path(name).exists()


def _expanded(names: Sequence[str]) -> list[str]:
    """List the files that are meant, each once."""
    files: dict[str, str] = {}
    for name in names:
        if _is_pattern(name):
            import glob

            matching = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
            found = sorted(path for path in matching if Path(path).is_file())
            if not found:
                raise UsageError(f"no file matches input '{name}'")
        elif Path(name).is_dir():
            raise UsageError(f"input '{name}' is a folder: name its files, as in '{Path(name) / '*.h5'}'")
        elif not Path(name).exists():
            raise UsageError(f"input '{name}' doesn't exist")
        else:
            found = [name]
        for path in found:
            files.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - links stay as they are
    return list(files.values())


def _filled(pattern: str, file: str) -> str:
    """Return the name of an input's output."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in _PLACEHOLDERS:
            raise UsageError(
                f"output '{pattern}': there is no {match[0]}{did_you_mean(name, _PLACEHOLDERS)}, only {_KNOWN}"
            )
        return _PLACEHOLDERS[name](Path(file))

    return re.sub(_IN_BRACES, value, pattern)
