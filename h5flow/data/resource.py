"""What accesses to a file are about, and what ranks agree on: the things of which calls are kept in order."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "rows", "attributes", "references", "existence", "structure", "communicator", "written", "end of loop", "stop"
]

_WORDS: dict[Kind, str] = {
    "rows": "'{}'",
    "attributes": "the attributes of '{}'",
    "references": "the references of '{}'",
    "existence": "whether '{}' exists",
    "structure": "the structure of the file",
    "communicator": "a communicator of a component's own",
    "written": "what all ranks have written",
    "end of loop": "the end of the loop",
    "stop": "the end that was asked for",
}


class Resource(NamedTuple):
    """The rows of the dataset at a path, the attributes of a group, which references involve a dataset, or whether
    there is anything at a path; and what ranks do together that is about no path.
    """

    kind: Kind
    path: str = ""

    def __str__(self) -> str:
        path = self.path.strip("/").removesuffix("/data") if self.kind == "rows" else self.path
        return _WORDS[self.kind].format(path)
