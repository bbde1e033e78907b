"""The tables: one file a family, a row a way to build a sublayer; first fit wins."""

from headcount.architectures.tables import bert, fused, llama, t5
from headcount.architectures.tables.refused import REFUSED as REFUSED

ATTENTION = (*t5.ATTENTION, *bert.ATTENTION, *fused.ATTENTION, *llama.ATTENTION)
FEED_FORWARD = (
    *t5.FEED_FORWARD,
    *bert.FEED_FORWARD,
    *fused.FEED_FORWARD,
    *llama.FEED_FORWARD,
)
