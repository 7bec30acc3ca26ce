"""The random generators that all modules share: `np.random.normal()`, `random.random()` and the like.

What a component draws from them depends on everything that was drawn before, by whomever: a pipeline can't
reproduce that if there are two that draw. So either slices run one at a time, or each component gets draws of its own.

During a loop whoever draws is asked for, however the draw is made. numpy's generator is a `RandomState`, of which each
method takes the lock of the bit generator: it gets one that asks. That holds for `np.random.normal` as for a
`normal` that was imported by name, and for `scipy` and `sklearn`, which take the generator itself. Python's has no such
place, so the functions of `random` are replaced, also where modules have imported them by name; other ways to
it (`random._inst`, a function kept in a class) are seen by what they leave behind.
"""

from __future__ import annotations

from h5flow.runtime.randomness.as_drawn import Randomness
from h5flow.runtime.randomness.watch import DrawWatch

__all__ = ["DrawWatch", "Randomness"]
