"""The perfect learner of random taxi walks: what the data say, not what the world allows."""

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from nextlat_bench.scripted import Oracle
from nextlat_bench.tasks._core import FloatArray, IntArray, Task
from nextlat_bench.tasks.taxi import StreetMap, Taxi, TaxiWorld

__all__ = ["IdealLearner", "arrivals", "transitions"]

KEPT = 2**32  # bytes of tables: at the paper's scale, of more destinations than are read at once


class IdealLearner(Oracle):
    """The exact distribution of the training walks, given origin, destination and turns so far.

    It is not the oracle: towards the greatest length, a turn after which the destination is out of
    reach is legal in the world, and never in the data. Where the data say nothing, for no walk
    begins with this prefix, it is uniform over what the world allows.
    """

    name = "ideal_learner"
    nudge = 0.0

    def __init__(self, task: Task) -> None:
        if not isinstance(task, Taxi):
            raise ValueError(f"no ideal learner is known of the task {task.name}, but of taxi")
        if task.generator != "random":
            walks = f"taxi with generator = {task.generator!r}"
            raise ValueError(f"no ideal learner is known of {walks}, but of random walks")
        super().__init__(task)
        self.task, self.step = task, transitions(task.map)
        size = 8 * (task.max_nodes + 2) * task.map.num_nodes
        self.table = lru_cache(maxsize=max(1, KEPT // size))(self._table)

    def _table(self, destination: int) -> FloatArray:
        return arrivals(self.step, destination, self.task.min_nodes, self.task.max_nodes)

    def weights(self, prefix: IntArray, states: IntArray) -> FloatArray:
        """By Bayes' rule, with what all turns so far have in common left out."""
        world, task, streets = self.world, self.task, self.task.map
        assert isinstance(world, TaxiWorld)
        num_walked = prefix.shape[1] - 1  # nodes: the origin and one a turn
        allowed = super().weights(prefix, states)
        node, destination = world.node(states), world.destination(states)
        weights = np.zeros(allowed.shape)
        for goal in np.unique(destination[node >= 0]):
            rows = np.flatnonzero(destination == goal)
            here = node[rows]
            after = self.table(int(goal))[min(num_walked, task.max_nodes) + 1]
            turns = after[streets.neighbour[here]] * streets.exits[here]
            degree = np.maximum(streets.exits[here].sum(axis=1, keepdims=True), 1)
            weights[rows, streets.num_nodes : streets.num_nodes + 8] = turns / degree
        ends = (node >= 0) & (node == destination)
        weights[:, self.end] = ends & (task.min_nodes <= num_walked <= task.max_nodes)
        # no walk of the data begins like that, or no street leads on, and then it may only end
        unheard_of = ~weights.any(axis=1)
        weights[unheard_of] = allowed[unheard_of]
        return weights


def transitions(streets: StreetMap) -> csr_array:
    """(N, N): the random walk's transition matrix. It stays where no street leads on."""
    node, turn = np.nonzero(streets.exits)
    (stuck,) = np.nonzero(~streets.exits.any(axis=1))
    chance = np.concatenate((1 / streets.exits.sum(axis=1)[node], np.ones(len(stuck))))
    pairs = np.concatenate((node, stuck)), np.concatenate((streets.neighbour[node, turn], stuck))
    return csr_array((chance, pairs), shape=(streets.num_nodes, streets.num_nodes))


def arrivals(step: csr_array, destination: int, min_nodes: int, max_nodes: int) -> FloatArray:
    """(max_nodes + 2, N): for the n-th node v of a walk, over the lengths L = max(n, min_nodes) ..
    max_nodes that it may have, the sum of its chances P^(L - n)[v, destination] to arrive."""
    out = np.zeros((max_nodes + 2, step.shape[0]))
    for n in range(max_nodes, 0, -1):
        out[n] = step @ out[n + 1]
        out[n, destination] += n >= min_nodes
    return out
