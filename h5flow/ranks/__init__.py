"""Several ranks on one file: who is where, what they do together, and what they send each other."""

from h5flow.ranks.communicators import duplicates
from h5flow.ranks.coordination import Coordination, Owner, packed, unpacked
from h5flow.ranks.rounds import AFTER, BEFORE, LOOP, Moment, Round

__all__ = ["AFTER", "BEFORE", "LOOP", "Coordination", "Moment", "Owner", "Round", "duplicates", "packed", "unpacked"]
