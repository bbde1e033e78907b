"""Plan attention that loses all heads, or is removed as a sublayer.

The stock code usually runs on with one head of zeros that has no weights. So shapes, caches and
return values stay as the callers expect. The computation is left out where the layout allows it
(``skips``), or where a tensor with one number for each head would be empty.
"""

from torch import nn

from headcount.architectures import names
from headcount.architectures.attention import (
    Attention,
    outside,
    per_head_tensors,
    skips,
    whole_norms,
)
from headcount.architectures.maps import child, width
from headcount.architectures.match import resolve
from headcount.architectures.sublayers import Sublayer
from headcount.surgery.counts import new_counts
from headcount.surgery.draft import Draft


def empty(draft: Draft, sublayer: Sublayer, found: Attention, *, whole: bool) -> None:
    """Take all heads out of an attention module.

    Args:
        draft: the draft to write to.
        sublayer: the attention module and its location.
        found: its counts and parts.
        whole: whether the sublayer is removed, so that the output projection's bias goes too.
    """
    attention = draft.model.get_submodule(found.name)
    left_out = skips(draft.model, found)
    # Everything that only served heads goes: projections, maps, norms, tensors, outside tables.
    for path in found.row.projections:
        mapping = attention.get_submodule(path)
        size = 0 if left_out else _one_head(found, path, mapping)
        draft.zeros(resolve(found.name, path), size)
    for path in names.PER_HEAD_MAPS:
        mapping = child(attention, path)
        if mapping is not None and width(mapping, 0) and found.num_heads:
            draft.zeros(f"{found.name}.{path}", width(mapping, 0) // found.num_heads)
    for path in names.NORMS:
        if child(attention, path) is not None:
            draft.identity(f"{found.name}.{path}")
    for name in per_head_tensors(draft.model, found):
        draft.lose(f"{found.name}.{name}")
    for path in outside(draft.model, found.name, found.row):
        parent, _, leaf = path.rpartition(".")[0].rpartition(".")
        draft.set(parent, {leaf: None})
    draft.close(sublayer.gate, whole=whole)
    _count(draft, sublayer, found, attention, left_out=left_out)


def _count(
    draft: Draft, sublayer: Sublayer, found: Attention, attention: nn.Module, *, left_out: bool
) -> None:
    """Plan the counts and the forward method of attention without heads."""
    row, location = found.row, sublayer.location
    number = 0 if left_out else 1
    draft.set(found.name, new_counts(vars(attention), found, number, number))
    if left_out:
        # A decoder's self-attention still fills its layer of the cache: generation reads the number
        # of tokens there.
        index = vars(attention).get("layer_idx")
        decodes = location.branch == "self" and location.stack == "decoder"
        draft.set(found.name, {"counts_tokens": decodes and index is not None})
        # An output projection in the parent module is run by the parent.
        outside = row.output.startswith("..")
        other = [row.returns] * (row.returns != "context and map")
        draft.wrap(found.name, "without_heads", "" if outside else row.output, *other)
    elif row.config_counts:
        draft.override(found.name, dict.fromkeys(row.config_counts, 1))


def _one_head(found: Attention, path: str, mapping: nn.Module) -> int:
    """How many outputs of a projection belong to one head."""
    row, full = found.row, width(mapping, 0)
    # Heads are gone since an earlier cut: the map is one of zeros and stays as wide.
    if not found.num_heads:
        return full or vars(mapping).get("out_features", 0)
    # Query, key and value of one head; key and value where queries have their own projection.
    if path == row.fused and row.packing != "heads":
        return (2 if row.query else 3) * found.head_size
    # Projections before a norm over all heads were never sliced, so their width does not tell.
    if whole_norms(found) and path != row.value:
        return found.size_of_query
    shared = path in (row.query, row.fused) or row.keys_per_head
    return full // (found.num_heads if shared else found.num_groups)
