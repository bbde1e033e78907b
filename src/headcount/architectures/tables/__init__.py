"""The tables: one file for each family, one row for each way to build a sublayer.

The first row that fits a module is taken. So rows for named classes and with conditions come before
rows that fit any class.
"""

from headcount.architectures.tables import bert, fused, llama, t5, timm, wide
from headcount.architectures.tables.refused import REFUSED as REFUSED
from headcount.architectures.tables.refused import REFUSED_WITH as REFUSED_WITH
from headcount.architectures.tables.refused import RIGHT_WITH_ENCODER as RIGHT_WITH_ENCODER
from headcount.architectures.tables.timm import LAYERS as LAYERS

ATTENTION = (
    *t5.ATTENTION,
    *wide.ATTENTION,
    *timm.ATTENTION,
    *bert.ATTENTION,
    *fused.ATTENTION,
    *llama.ATTENTION,
)
FEED_FORWARD = (
    *t5.FEED_FORWARD,
    *bert.FEED_FORWARD,
    *fused.FEED_FORWARD,
    *llama.FEED_FORWARD,
    *timm.FEED_FORWARD,
)
