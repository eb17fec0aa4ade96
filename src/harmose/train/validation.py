"""Validation on several processes: each predicts a part of the samples, and all know all errors."""

from collections.abc import Sequence

import numpy as np

from harmose.data.store import Store
from harmose.train.dataset import Predict, ValidationSet
from harmose.train.prepare import TrainingData
from harmose.train.processes import Processes


class SharedValidation:
    """The samples `names` of a validation set, of which this process predicts `mine`: every `size`-th, from its rank on."""

    def __init__(self, processes: Processes, names: Sequence[str], mine: ValidationSet):
        self.processes, self.names, self.mine = processes, names, mine

    @staticmethod
    def of(processes: Processes, store: Store, data: TrainingData, blind: bool) -> "tuple[SharedValidation, ...]":
        """Return the validation samples of a training, and the training samples whose errors are logged."""
        rank, size, shared = processes.rank, processes.size, []
        for whole in (data.validation, data.training_errors):
            mine, names = whole, whole.names
            if size > 1:
                mine = ValidationSet(store, names[rank::size], data.fit, data.dataset.target, blind)
            shared.append(SharedValidation(processes, names, mine))
        return tuple(shared)

    def errors(self, predict: Predict) -> np.ndarray:
        """Return the error of each sample (n,) in eV, as `ValidationSet.errors`. All processes must call it."""
        mine = self.mine.errors(predict) if self.mine.names else np.empty(0)
        return self.processes.interleaved(mine, len(self.names))
