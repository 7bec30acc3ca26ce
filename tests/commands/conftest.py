"""Commands, run as users run them, on files of a small workflow."""

from __future__ import annotations

import pytest

STAGES = """
    import numpy as np
    from h5flow.core import H5FlowStage

    __version__ = '7.0'
    HIT = np.dtype([('id', 'u4'), ('q', 'f4')])

    class Sum(H5FlowStage):
        class_version = '1.2.3'

        def __init__(self, scale=1.0, fails=False, **params):
            super().__init__(**params)
            self.scale, self.fails = scale, fails

        def init(self, source_name):
            self.data_manager.create_dset('reco/sums', HIT)
            self.data_manager.create_ref(source_name, 'reco/sums')

        def run(self, source_name, source_slice, cache):
            if self.fails:
                raise ValueError('as it was told to')
            hits = cache['hits']
            made = np.zeros(len(hits), HIT)
            made['id'] = cache[source_name]['id']
            made['q'] = self.scale * hits['q'].filled(0).sum(axis=1)
            rows = self.data_manager.reserve_data('reco/sums', len(made))
            self.data_manager.write_data('reco/sums', rows, made)
            self.data_manager.write_ref(source_name, 'reco/sums', np.c_[np.r_[source_slice], np.r_[rows]])
"""

WORKFLOW = """
    flow: {source: raw, stages: [sum]}
    sum:
      classname: Sum
      path: mine
      requires: [hits]
      params: !include params.yaml
"""


@pytest.fixture
def folder(folder):
    """The folder, with a module, a workflow that includes its parameters, and an input."""
    folder.write("mine.py", STAGES)
    folder.write("workflow.yaml", WORKFLOW)
    folder.write("params.yaml", "{scale: 2.5}\n")
    folder.input()
    return folder


@pytest.fixture
def reco(folder):
    """The folder, with an output of the workflow."""
    done = folder.run("workflow.yaml", "-i", "in.h5", "-o", "out.h5", "-s", "2")
    assert done.code == 0, done
    return folder
