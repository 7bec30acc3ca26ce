"""What ranks tell each other.

Each rank tells the *controller*, which is on rank 0, what it calls for and how far it is, and the controller tells each
rank what has come of it. The *owner* of the file, rank 0 as well, is sent rows and asked for them.

Messages are sent thousands of times a second, so they are encoded by msgspec, in a fifth of the time that pickle
takes. What nobody on the way looks into (calls, requests, answers) is pickled where it comes from and unpickled where
it is used. Only what may carry many rows is pickled whole, since each encoding in another one copies them once more.
"""

from __future__ import annotations

import functools
import pickle
from typing import Any, Final

import msgspec

from h5flow.ranks.rounds import Place, Progress, Resource

#: Any value, pickled.
Pickled = bytes
#: Tells a collection from others: the rank that wants it, and how many it has wanted before.
Token = tuple[int, int]


class _Message(msgspec.Struct, frozen=True, array_like=True):
    """A message that is encoded by msgspec."""


# from any rank to the controller


class ForController(_Message, frozen=True):
    """A message for the controller."""


class Join(ForController, frozen=True, tag=1):
    """The sender makes a collective call, and waits for its outcome or goes on. `progress` is its own."""

    resource: Pickled
    place: Place
    call: Pickled
    waits: bool
    progress: Progress


class Wait(ForController, frozen=True, tag=2):
    """The sender waits from now on for the outcome of a call that it has made and gone on."""

    resource: Pickled
    place: Place


class Proceed(ForController, frozen=True, tag=3):
    """The sender has got so far; it tells when it has been asked to, and then once."""

    progress: Progress


class Collect(ForController, frozen=True, tag=4):
    """The sender wants to have an answer of each rank, about a resource; `number` is that of its token."""

    number: int
    resource: Pickled
    request: Pickled


class Reported(ForController, frozen=True, tag=5):
    """The sender has been asked to report, and all that it has called for before has been sent before this."""

    token: Token


class Delivered(ForController, frozen=True, tag=6):
    """The sender's answer for a collection: an `Outcome`."""

    token: Token
    answer: Pickled


class Failed(ForController, frozen=True, tag=7):
    """The sender has failed, and why."""

    why: str


# from the controller to a rank


class Closed(_Message, frozen=True, tag=11):
    """A round is closed, to be applied now. `calls` are those of the ranks, `None` where one made no call."""

    resource: Pickled
    place: Place
    calls: list[Pickled | None]


class Refused(_Message, frozen=True, tag=12):
    """A call of the receiver came too late to be answered, and why."""

    resource: Pickled
    place: Place
    why: str


class ProgressWanted(_Message, frozen=True, tag=13):
    """Others wait for the receiver: it shall tell how far it is as soon as it has got further."""


class Report(_Message, frozen=True, tag=14):
    """The receiver shall report, so that all that it has called for up to now has been received before a collection."""

    token: Token


class Deliver(_Message, frozen=True, tag=15):
    """The receiver shall answer, when it has applied the rounds that it was told of before."""

    token: Token
    request: Pickled


class Collected(_Message, frozen=True, tag=16):
    """The answers of all ranks, `Outcome`s by rank, for the collection of this number that the receiver wants."""

    number: int
    answers: list[Pickled]


class RankFailed(_Message, frozen=True, tag=17):
    """Some rank has failed, and why: whoever waits for others, now or later, gets an error."""

    why: str


# between any rank and the owner of the file


class _Carrier(msgspec.Struct, frozen=True):
    """A message that is pickled, since it may carry many rows."""


class Do(_Carrier, frozen=True):
    """The sender has the owner do something."""

    request: tuple[Any, ...]


class Ask(_Carrier, frozen=True):
    """The sender has the owner do something, and waits for the answer of this number."""

    number: int
    request: tuple[Any, ...]


class Answer(_Carrier, frozen=True):
    """What has come of what the receiver has asked the owner for."""

    number: int
    value: Any = None
    error: Exception | None = None


# between the couriers of any two ranks


class Farewell(_Message, frozen=True, tag=21):
    """The last that the sender sends."""


class Outcome(msgspec.Struct, frozen=True):
    """What has come of a call."""

    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """Return the value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


ToController = Join | Wait | Proceed | Collect | Reported | Delivered | Failed
FromController = Closed | Refused | ProgressWanted | Report | Deliver | Collected | RankFailed
Message = ToController | FromController | Do | Ask | Answer | Farewell

_CARRIERS: Final = (Do, Ask, Answer)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ToController | FromController | Farewell).decode


def encoded(message: Message) -> object:
    """Encode a message: what is returned is to be pickled."""
    if isinstance(message, _Carrier):
        return (_CARRIERS.index(type(message)), *msgspec.structs.astuple(message))  # plain, to be pickled quickly
    return _encode(message)


def decoded(sent: Any) -> Message:
    """Decode what `encoded` has returned."""
    if isinstance(sent, bytes):
        message: Message = _decode(sent)
        return message
    kind, *fields = sent
    return _CARRIERS[kind](*fields)


def pickled(value: Any) -> Pickled:
    """Pickle a value that nobody on the way looks into."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def unpickled(value: Pickled) -> Any:
    """Return the value that was pickled."""
    return pickle.loads(value)


# There are a few resources, each named in many messages.


@functools.lru_cache(maxsize=4096, typed=True)
def pickled_resource(resource: Resource) -> Pickled:
    """Pickle a resource."""
    return pickled(resource)


@functools.lru_cache(maxsize=4096)
def resource_of(resource: Pickled) -> Resource:
    """Return the resource that was pickled; equal ones may be pickled differently."""
    return unpickled(resource)
