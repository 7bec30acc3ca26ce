"""What `h5flow-async` can do besides running workflows: a module for each command.

A module has `parser()`, which is the command line, and `run(options, terminal)`, which returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Protocol, cast

from h5flow.telemetry.terminal import Terminal

#: The names of the commands, and what each does.
COMMANDS = {
    "plan": "what a job would do, without doing it",
    "check": "whether workflows, classes, input and references are in order",
    "inspect": "what is in a file, and what made it",
    "report": "what limited a run, from its logs, and pictures of it",
    "rerun": "run again what made a file, and say what is different now",
}


class Command(Protocol):
    """A command."""

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of its command line."""
        ...

    def run(self, options: argparse.Namespace, terminal: Terminal) -> int:
        """Carry it out; returns the exit code."""
        ...


def command(name: str) -> Command:
    """Return the command of a name."""
    return cast(Command, importlib.import_module(f"h5flow.commands.{name}"))
