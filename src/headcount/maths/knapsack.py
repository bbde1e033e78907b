"""The most valuable choice within a cost, exactly: by a sweep, or by dynamic programming."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float, Int

Values = Float[np.ndarray, " m"]
Costs = Int[np.ndarray, " m"]
Index = Int[np.ndarray, " k"]

ROUNDING = 1e-12
"""Differences of value below this share of the bound are rounding."""
FIRST_REACH = 1 / 4096
"""The first ``reach``, as a share of the gap between the first choice's value and the bound."""
PIECE = 1 << 21
"""Pairs of states that are compared at a time, which bounds memory."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Units that are taken in a fixed order, the best first: only their number is chosen.

    Example:
        >>> Stream(values=np.array([0.0, 5.0, 9.0]), costs=np.array([0, 10, 20])).parent
        -1
    """

    values: Values
    """Value of the first k units, [n + 1]; starts at 0 and never falls."""
    costs: Costs
    """Cost of the first k units, [n + 1]; starts at 0 and never falls."""
    parent: int = -1
    """Index of a later stream, of one unit, without which none of these is taken; -1: none."""


def choose(streams: Sequence[Stream], room: int) -> list[int]:
    r"""How many units to take of each stream, for the greatest value within a cost.

    ``max sum_s v_s(k_s)`` with ``sum_s c_s(k_s) <= room``, and ``k_s = 0`` where the parent of s
    is not taken.

    One or two streams without parents are swept: for each count of one, as many of the other as
    fit. Anything else is a multiple-choice knapsack. If cost has a price instead of a limit, the
    best choice is easy and its value bounds all others. Dynamic programming searches the choices
    whose loss against this bound is at most ``reach``, and ``reach`` grows until no unseen choice
    can win.

    Args:
        streams: the units to choose from.
        room: the greatest cost, 0 or more.

    Returns:
        A count for each stream, to which no unit can be added.

    Example:
        >>> head = Stream(np.array([0.0, 5.0, 9.0]), np.array([0, 10, 20]))
        >>> neuron = Stream(np.array([0.0, 2.0, 3.5, 4.0]), np.array([0, 3, 6, 9]))
        >>> choose([head, neuron], 17), choose([head, neuron], 20)
        ([1, 2], [1, 3])

    Source: the sweep, for heads and neurons: Kwon et al. 2022, arXiv 2204.09656, algorithm 1.
        Dynamic programming over the choices that a bound leaves: Dyer, Riha, Walker, "A hybrid
        dynamic programming/branch-and-bound algorithm for the multiple-choice knapsack problem",
        1995.
    """
    if _can_be_swept(streams):
        return fill(streams, _sweep(streams, room), room)
    relaxed = _Relaxed.of(streams, room)
    best = fill(streams, relaxed.fitting, room)
    rounding = ROUNDING * max(relaxed.bound, 1.0)
    # A small reach first: the best choice usually loses little, and the number of states grows
    # steeply with the reach.
    reach = (relaxed.bound - value(streams, best)) * FIRST_REACH
    while True:
        reach = max(reach, rounding)
        found = _Search(streams, room, relaxed, reach).best()
        if found is not None and value(streams, found) > value(streams, best):
            best = fill(streams, found, room)
        # An unseen choice loses more than reach, so it is worth less than bound - reach.
        if relaxed.bound - value(streams, best) <= reach + rounding:
            return best
        reach = min(4 * reach, relaxed.bound - value(streams, best))


def approach(streams: Sequence[Stream], room: int) -> list[int]:
    """A choice within the room that is the best or near it, without the search of ``choose``.

    Args:
        streams: the units to choose from.
        room: the greatest cost, 0 or more.

    Returns:
        A count for each stream, to which no unit can be added.

    Example:
        >>> head = Stream(np.array([0.0, 5.0, 9.0]), np.array([0, 10, 20]))
        >>> approach([head, head, head], 35)
        [1, 1, 1]
    """
    if _can_be_swept(streams):
        return choose(streams, room)
    return fill(streams, _Relaxed.of(streams, room).fitting, room)


def _can_be_swept(streams: Sequence[Stream]) -> bool:
    return len(streams) <= 2 and all(stream.parent < 0 for stream in streams)


def fill(streams: Sequence[Stream], counts: Sequence[int], room: int) -> list[int]:
    """Take more units as long as one fits, the most valuable first.

    Args:
        streams: the units to choose from.
        counts: the numbers that are taken already.
        room: the greatest cost of all together.

    Returns:
        Counts to which no unit can be added.

    Example:
        >>> neuron = Stream(np.array([0.0, 2.0, 2.0]), np.array([0, 3, 6]))
        >>> fill([neuron], [0], 7)
        [2]
    """
    full = list(counts)
    room -= cost(streams, counts)
    holding = {stream.parent for stream in streams}
    gains = [np.diff(stream.values) for stream in streams]
    prices = [np.diff(stream.costs) for stream in streams]
    turns = [
        np.flatnonzero((np.diff(gain) != 0) | (np.diff(price) != 0))
        for gain, price in zip(gains, prices, strict=True)
    ]  # the last of each run of equal steps: a run is taken at once, neurons one by one are slow
    while True:
        fitting = [
            (float(gains[index][k]), -index)
            for index, (stream, k) in enumerate(zip(streams, full, strict=True))
            if k < len(prices[index])
            and prices[index][k] <= room
            and (stream.parent < 0 or full[stream.parent])
        ]
        if not fitting:
            return full
        best = -max(fitting)[1]
        first, price = full[best], int(prices[best][full[best]])
        num = 1
        if best not in holding:  # a parent brings new units, which may be worth more: one step
            turn = np.searchsorted(turns[best], first)
            end = turns[best][turn] + 1 if turn < len(turns[best]) else len(prices[best])
            num = min(int(end) - first, room // price if price else len(prices[best]))
        room -= num * price
        full[best] += num


def settle(streams: Sequence[Stream], counts: Sequence[int], places: Sequence[int]) -> list[int]:
    """Give the larger counts of equal streams to the first of them: ties go to the lowest place.

    Streams are equal if they have the same values, costs and parent, and hold equal streams.

    Args:
        streams: the units to choose from.
        counts: the numbers that are taken.
        places: the place of each stream in the model, which decides ties.

    Returns:
        Counts with the same value and cost.

    Example:
        >>> head = Stream(np.array([0.0, 5.0, 9.0]), np.array([0, 10, 20]))
        >>> settle([head, head, head], [0, 2, 1], places=[2, 1, 0])
        [0, 1, 2]
    """
    inside: dict[int, list[int]] = {}
    for index in sorted(range(len(streams)), key=lambda index: places[index]):
        inside.setdefault(streams[index].parent, []).append(index)

    def tree(index: int) -> list[int]:
        return [index, *(inner for child in inside.get(index, []) for inner in tree(child))]

    def look(index: int) -> tuple[bytes, ...]:
        kept = (streams[inner] for inner in tree(index))
        return tuple(part for s in kept for part in (s.values.tobytes(), s.costs.tobytes()))

    settled = list(counts)
    for index in range(len(streams)):  # inner streams have lower indices
        _swap([tree(child) for child in inside.get(index, [])], look, settled)
    _swap([tree(root) for root in inside.get(-1, [])], look, settled)
    return settled


def _swap(
    trees: list[list[int]], look: Callable[[int], tuple[bytes, ...]], counts: list[int]
) -> None:
    """Distribute the counts of equal trees again, the largest first."""
    alike: dict[tuple[bytes, ...], list[list[int]]] = {}
    for tree in trees:
        alike.setdefault(look(tree[0]), []).append(tree)
    for members in alike.values():
        taken = sorted(([counts[index] for index in tree] for tree in members), reverse=True)
        for tree, numbers in zip(members, taken, strict=True):
            for index, number in zip(tree, numbers, strict=True):
                counts[index] = number


def value(streams: Sequence[Stream], counts: Sequence[int]) -> float:
    """The value of counts."""
    return sum(float(stream.values[k]) for stream, k in zip(streams, counts, strict=True))


def cost(streams: Sequence[Stream], counts: Sequence[int]) -> int:
    """The cost of counts."""
    return sum(int(stream.costs[k]) for stream, k in zip(streams, counts, strict=True))


def _sweep(streams: Sequence[Stream], room: int) -> list[int]:
    """The best counts of one or two streams: every count of the shorter one is tried."""
    if len(streams) < 2:
        return [int(np.searchsorted(s.costs, room, side="right")) - 1 for s in streams]
    one, other = sorted((0, 1), key=lambda index: len(streams[index].costs))
    left = room - streams[one].costs
    left = left[left >= 0]
    most = np.searchsorted(streams[other].costs, left, side="right") - 1
    worth = streams[one].values[: len(left)] + streams[other].values[most]
    first = int(np.argmax(worth))
    counts = {one: first, other: int(most[first])}
    return [counts[0], counts[1]]


@dataclass(frozen=True, slots=True)
class _Relaxed:
    """The problem with a price per cost instead of a limit (Lagrangian relaxation)."""

    price: float
    """The price that makes the bound lowest."""
    bound: float
    """Upper bound: no choice within the limit has a greater value."""
    gains: list[float]
    """Value minus price of each stream's best count above 0, with the streams it holds."""
    fitting: list[int]
    """A good choice within the limit."""

    @classmethod
    def of(cls, streams: Sequence[Stream], room: int) -> "_Relaxed":
        """Find the price with the lowest bound.

        The bound is the maximum over all choices of ``value + price * (room - cost)``: lines in the
        price, so it is convex. Two choices enclose its lowest point, ``fits`` within the limit and
        ``over`` above it. The price where their lines meet is tried; the best choice there replaces
        one of them, until no line is above the meeting point.
        """
        over = cls.at(streams, room, 0.0)  # without a price everything of value is taken
        if cost(streams, over.fitting) <= room:
            return over
        fits = [0] * len(streams)
        while True:
            rise = value(streams, over.fitting) - value(streams, fits)
            price = rise / (cost(streams, over.fitting) - cost(streams, fits))
            found = cls.at(streams, room, price)
            corner = value(streams, fits) + price * (room - cost(streams, fits))
            if found.bound <= corner * (1 + 1e-12) or found.fitting in (fits, over.fitting):
                return cls(price, found.bound, found.gains, fits)
            if cost(streams, found.fitting) <= room:
                fits = found.fitting
            else:
                over = found

    @classmethod
    def at(cls, streams: Sequence[Stream], room: int, price: float) -> "_Relaxed":
        """The best choice at a price, within the limit or not. Streams do not compete here."""
        counts, gains = [], []
        for stream in streams:
            net = stream.values - price * stream.costs
            counts.append(int(net[1:].argmax()) + 1 if len(net) > 1 else 0)
            gains.append(float(net[counts[-1]]))
        for index, stream in enumerate(streams):  # upwards: a parent gains by what it holds
            if stream.parent >= 0:
                gains[stream.parent] += max(gains[index], 0.0)
        for index in range(len(streams) - 1, -1, -1):  # downwards: nothing without its parent
            parent = streams[index].parent
            if gains[index] <= 0 or (parent >= 0 and not counts[parent]):
                counts[index] = 0
        roots = (g for g, stream in zip(gains, streams, strict=True) if stream.parent < 0)
        return cls(price, sum(max(g, 0.0) for g in roots) + price * room, gains, counts)


class _States:
    """Choices in some of the streams: the cost and loss of each, and how it was made."""

    def __init__(self, costs: Costs, losses: Values, ways: list[tuple["_States | int", Costs]]):
        """``ways`` has (stream, counts), or (earlier states, indices in them), one per state."""
        self.costs, self.losses, self.ways = costs, losses, ways

    def write(self, state: int, counts: list[int]) -> None:
        """Write the counts of a state into ``counts``, which has all streams."""
        for source, index in self.ways:
            if isinstance(source, int):
                counts[source] = int(index[state])
            elif index[state] >= 0:
                source.write(int(index[state]), counts)

    def only(self, index: Index) -> "_States":
        """The states with these indices."""
        ways = [(source, way[index]) for source, way in self.ways]
        return _States(self.costs[index], self.losses[index], ways)


class _Search:
    """Searches the choices that lose at most ``reach`` against the bound.

    A choice is dropped if another one costs no more and is worth as much (dominance).
    """

    def __init__(
        self, streams: Sequence[Stream], room: int, relaxed: _Relaxed, reach: float
    ) -> None:
        self.streams, self.room, self.relaxed, self.reach = streams, room, relaxed, reach
        self.inside: list[list[int]] = [[] for _ in streams]
        for index, stream in enumerate(streams):
            if stream.parent >= 0:
                self.inside[stream.parent].append(index)

    def best(self) -> list[int] | None:
        """The best choice within the room; None if the search has none.

        All roots are combined except the one with the most states. For each combination, the most
        expensive state of the last root that fits is its best, since states are without dominated
        ones. So the largest product is never made.
        """
        roots = [index for index, stream in enumerate(self.streams) if stream.parent < 0]
        *others, last = sorted(map(self._of, roots), key=lambda states: len(states.costs))
        together = _States(np.zeros(1, dtype=np.int64), np.zeros(1), [])
        for done, states in enumerate(others, 1):
            together = self._pair(together, states)
            # Drop what leaves too little room even for the cheapest states of the other roots.
            rest = sum(int(states.costs.min()) for states in [*others[done:], last])
            together = together.only(np.flatnonzero(together.costs + rest <= self.room))
        fits = np.searchsorted(last.costs, self.room - together.costs, side="right") - 1
        fitting = np.flatnonzero(fits >= 0)
        if not len(fitting):
            return None
        worth = self._worth(together)[fitting] + self._worth(last)[fits[fitting]]
        state = int(fitting[worth.argmax()])
        counts = [0] * len(self.streams)
        together.write(state, counts)
        last.write(int(fits[state]), counts)
        return counts

    def _worth(self, states: _States) -> Values:
        return self.relaxed.price * states.costs - states.losses

    def _all(self, indices: Sequence[int]) -> _States:
        """The states of several streams together, the smallest first."""
        each = sorted(map(self._of, indices), key=lambda states: len(states.costs))
        return reduce(self._pair, each)

    def _pair(self, one: _States, other: _States) -> _States:
        """Every state of one set with every state of another, piece by piece to save memory."""
        step = max(1, PIECE // max(1, len(one.costs)))
        pieces = []
        for start in range(0, len(other.costs), step):
            costs = (one.costs[:, None] + other.costs[start : start + step]).ravel()
            losses = (one.losses[:, None] + other.losses[start : start + step]).ravel()
            best = self._unbeaten(costs, losses)
            first, second = np.divmod(best, len(other.costs[start : start + step]))
            pieces.append((costs[best], losses[best], first, second + start))
        costs, losses, first, second = map(np.concatenate, zip(*pieces, strict=True))
        both = _States(costs, losses, [(one, first), (other, second)])
        return both.only(self._unbeaten(costs, losses))

    def _of(self, index: int) -> _States:
        """The states of a stream together with the streams that it holds."""
        stream, gain = self.streams[index], self.relaxed.gains[index]
        most = max(gain, 0.0)  # net value of the best choice; a loss is the distance from it
        if not self.inside[index] or len(stream.costs) == 1:
            losses = most - (stream.values - self.relaxed.price * stream.costs)
            counts = np.arange(len(losses))
            each = _States(stream.costs, losses, [(index, counts)])
            return each.only(self._unbeaten(stream.costs, losses))
        # State 0: the parent is not taken, nor what it holds. The others: taken, with each state.
        held = self._all(self.inside[index])
        costs = np.concatenate(([0], held.costs + stream.costs[1]))
        losses = np.concatenate(([most], held.losses + (most - gain)))
        within = np.arange(-1, len(held.costs))
        taken = (within >= 0).astype(np.int64)
        both = _States(costs, losses, [(index, taken), (held, within)])
        return both.only(self._unbeaten(costs, losses))

    def _unbeaten(self, costs: Costs, losses: Values) -> Index:
        """The states within reach that are worth more than any that costs no more, by cost."""
        within = np.flatnonzero(losses <= self.reach * (1 + 1e-9))
        within = within[np.lexsort((losses[within], costs[within]))]
        worth = self.relaxed.price * costs[within] - losses[within]
        better = np.concatenate(([True], worth[1:] > np.maximum.accumulate(worth)[:-1]))
        return within[better[: len(within)]]
