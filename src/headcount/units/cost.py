"""The cost of one unit, in parameters and in multiply-accumulates (MACs)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """The cost of one unit: parameters, and MACs as a polynomial of the sequence length.

    Example:
        >>> Cost(params=196_800, macs_per_token=196_608, macs_per_token_pair=128).macs(128)
        27262976

    Source: Kwon et al. 2022, arXiv 2204.09656: a head costs ``4 S d d_h + 2 S^2 d_h`` MACs.
    """

    params: int
    """Parameters freed when the unit is removed."""
    macs_per_token: int
    """MACs for each token: the unit's share of the projections."""
    macs_per_token_pair: int = 0
    """MACs for each pair of tokens: the attention score, and its product with the value."""

    def macs(self, length: int) -> int:
        """MACs on one sequence.

        Args:
            length: number of tokens S, of queries as well as keys.

        Returns:
            ``macs_per_token * S + macs_per_token_pair * S^2``.
        """
        return self.macs_per_token * length + self.macs_per_token_pair * length**2

    def plus(self, other: "Cost", times: int = 1) -> "Cost":
        """This cost plus ``times`` another one."""
        return Cost(
            params=self.params + times * other.params,
            macs_per_token=self.macs_per_token + times * other.macs_per_token,
            macs_per_token_pair=self.macs_per_token_pair + times * other.macs_per_token_pair,
        )

    def less(self, other: "Cost", times: int = 1) -> "Cost":
        """This cost minus ``times`` another one.

        Example:
            >>> whole = Cost(params=26, macs_per_token=24)
            >>> whole.less(Cost(params=12, macs_per_token=12), 2).params
            2
        """
        return self.plus(other, -times)

    def run(self, times: int) -> "Cost":
        """The cost if a forward pass runs the unit several times: more MACs, equal parameters."""
        return Cost(
            params=self.params,
            macs_per_token=times * self.macs_per_token,
            macs_per_token_pair=times * self.macs_per_token_pair,
        )


NOTHING = Cost(params=0, macs_per_token=0)
"""A cost of zero."""
