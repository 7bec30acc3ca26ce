"""Pipelined runs give the file that sequential runs give, for workflows made up at random."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from h5flow.core import H5FlowManager
from h5flow.data.file import checkpoints
from h5flow.runtime import batches
from h5flow.runtime.hazards import Conflict
from support.comparing import content

EXAMPLES = 20_000 if os.environ.get("H5FLOW_SOAK") else 200

WRITES = ["append", "append", "append", "link", "append_shared", "update_source", "update_before", "update_other"]
READS = ["read_whole", "read_last", "read_rows", "read_slice", "follow", "regions"]
OTHERS = ["attributes", "create", "replace", "change", "discard", "add"]
# What these do on later slices can't be known from what they do on the first ones.
SURPRISES = {"create", "update_other"}
SLEEPS = st.sampled_from([0, 0, 0.0005, 0.002])


@st.composite
def workflows(draw):
    """A workflow's config, without mode."""
    names = [f"s{number}" for number in range(1, draw(st.integers(1, 6)) + 1)]
    datasets = ["raw", "shared", *names]
    from_the_start = draw(st.integers(0, 3)) > 0
    config = {
        "flow": {"source": "gen", "stages": names, "drop": draw(st.lists(st.sampled_from(names), max_size=1))},
        "gen": {
            "classname": "Source",
            "path": "support.made_up",
            "dset_name": "raw",
            "params": {
                "sizes": draw(st.lists(st.sampled_from([0, 1, 1, 2, 3, 4]), min_size=6, max_size=14)),
                "appends": draw(st.booleans()),
                "sleep": draw(SLEEPS),
                "rewrites": draw(st.integers(0, 7)) == 0,
            },
        },
        "runtime": {
            "queue_depth": draw(st.integers(1, 5)),
            "loaders": draw(st.integers(1, 3)),
            "loop": draw(st.sampled_from(["auto", "asyncio"])),
        },
    }
    if draw(st.booleans()):
        config["runtime"]["queues"] = {draw(st.sampled_from(names)): draw(st.integers(1, 3))}
    if draw(st.integers(0, 3)) == 0:
        config["runtime"]["max_in_flight"] = draw(st.sampled_from([1, 2, 3, "100B", "2kB"]))
    for position, name in enumerate(names):
        actions = draw(
            st.lists(
                st.fixed_dictionaries(
                    {
                        "do": st.sampled_from(WRITES + READS + OTHERS),
                        "to": st.sampled_from(datasets),
                        "count": st.integers(0, 3),
                        "since": st.just(0) if from_the_start else st.sampled_from([0, 0, 1, 3, 5]),
                    }
                ),
                max_size=4,
            )
        )
        for action in actions:
            if action["do"] in ("follow", "regions"):
                # not every dataset is joined to the source, and later stages are not when this one begins
                action["to"] = draw(st.sampled_from(names))
            if action["do"] == "link":
                action["to"] = draw(st.sampled_from(["raw", "shared", *names[:position]]))
                if action["to"] == "raw":
                    action["do"] = "append"
        config[name] = {
            "classname": "Stage",
            "path": "support.made_up",
            "requires": draw(requirements(names, name)),
            "params": {"actions": actions, "sleep": draw(SLEEPS)},
        }
    return config


@st.composite
def requirements(draw, names, own):
    """Requirements on what any stage writes: over references, by row, chained, by number, and what isn't there."""
    result = []
    for number in range(draw(st.integers(0, 3))):
        path = draw(
            st.one_of(
                st.sampled_from(["raw", "shared", *names]).map(lambda name: [name]),
                st.lists(st.sampled_from(names), min_size=2, max_size=3),
                st.just(["nothing"]),
                st.just(["made/1"]),
            )
        )
        name = draw(st.sampled_from([f"{own}_{number}", path[0]]))
        result.append({"name": name, "path": path, "index_only": draw(st.integers(0, 3)) == 0})
    return result


def run(config, path, mode):
    """Run a workflow; returns the problem that it met, if it is one that a pipeline may have."""
    config = {**config, "runtime": {**config["runtime"], "mode": mode}}
    manager = H5FlowManager(config, str(path), mpi=False)
    try:
        manager.init()
        manager.run()
        manager.finish()
    except BaseException as error:
        manager.abandon()
        if isinstance(error, Conflict):
            return error
        raise
    return None


@pytest.mark.timeout(600 if EXAMPLES == 200 else 0)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    config=workflows(),
    when=st.sampled_from(["overlapping", "as measured", "changing"]),
    changes=st.randoms(use_true_random=True),  # asked as often as slices happen to end
    period=st.sampled_from([0.0, checkpoints.PERIOD]),
)
def test_pipelined_is_sequential(tmp_path_factory, config, when, changes, period):
    folder = tmp_path_factory.mktemp("run", numbered=True)
    note(str(config))
    with pytest.MonkeyPatch.context() as patch:
        if when == "overlapping":
            patch.setattr(batches.Batches, "note", lambda *_, **__: False)
        elif when == "changing":

            def note_nothing(self, *_, **__):
                self.alone = changes.random() < 0.5
                self.size = changes.randint(1, 4) if self.alone else 1
                return False

            patch.setattr(batches.Batches, "note", note_nothing)
        assert run(config, folder / "sequential.h5", "sequential") is None
        patch.setattr(checkpoints, "PERIOD", period)
        patch.setattr(checkpoints, "PATIENCE", 0.0)
        conflict = run(config, folder / "pipelined.h5", "pipelined")
    if conflict is not None:
        actions = [action for key in config["flow"]["stages"] for action in config[key]["params"]["actions"]]
        done = {action["do"] for action in actions}
        # What is discarded depends on the data: the next stage may read rows for the first time, and too late.
        late = any(action["since"] > 0 for action in actions) or done >= {"discard", "update_before"}
        assert late or done & SURPRISES, conflict
        return
    expected, found = content(folder / "sequential.h5"), content(folder / "pipelined.h5")
    assert found.keys() == expected.keys()
    different = [name for name in expected if found[name] != expected[name]]
    assert not different
