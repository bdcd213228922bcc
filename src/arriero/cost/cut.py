"""How a model and its batches are cut over devices, for arithmetic over one plan or a hundred thousand at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Count: TypeAlias = "int | np.ndarray"
"""An integer, or an array of them, one for each plan; arrays of one call have one shape."""


@dataclass(frozen=True)
class Cut:
    """Sizes of the grid of devices [pipeline, data, context, tensor].

    Attributes:
        data: copies of the model that see different sequences; with ``zero`` they share its states.
        tensor: parts of each block's matrices; ``sequence``: the norms between them are cut along the tokens too.
        context: parts of each sequence. pipeline: stages of consecutive blocks.
        zero: 0 every copy holds all; 1 optimizer states, 2 gradients too, 3 weights too are cut over data and context
            (Rajbhandari et al., arXiv 1910.02054; 3 is FSDP's ``fully_shard``).
        chunks: runs of blocks that each stage has, in turns with the other stages (Narayanan et al., arXiv 2104.04473,
            section 2.2): the pipeline fills in a chunk's time, and each boundary is crossed as often as there are chunks.
    """

    data: Count = 1
    tensor: Count = 1
    context: Count = 1
    pipeline: Count = 1
    sequence: bool | np.ndarray = False
    zero: Count = 0
    chunks: Count = 1

    @property
    def devices(self) -> Count:
        return self.data * self.tensor * self.context * self.pipeline

    @property
    def sharers(self) -> Count:
        """Devices over which ``zero`` cuts states."""
        return self.data * self.context
