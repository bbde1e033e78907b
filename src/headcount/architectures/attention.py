"""Read the heads of an attention module: a table row names the parts, their shapes say the rest."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from headcount.architectures import names
from headcount.architectures.layout import AttentionLayout
from headcount.architectures.maps import child, output_dim, tensors, width
from headcount.architectures.match import layout_of, resolve
from headcount.errors import ArchitectureError
from headcount.units.site import Part


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """The number and sizes of the heads of an attention module."""

    name: str
    """Qualified name of the module."""
    row: AttentionLayout
    """The table row that fits it."""
    num_heads: int
    """Query heads; 0 if an earlier cut removed all."""
    num_groups: int
    """Key-value heads."""
    head_size: int
    """Width of a head at the gate, which is the width of its value."""
    size_of_query: int
    """Width of a head's query."""
    size_of_key: int
    """Width of a head's key: the length of the dot product with a query."""
    shares_keys: bool
    """Whether the module's code allows fewer key-value heads than query heads."""
    heads: tuple[Part, ...]
    """The slices that are cut with a query head."""
    groups: tuple[Part, ...]
    """The slices that are cut with a key-value head and its query heads."""


def attention_of(model: nn.Module, name: str, module: nn.Module) -> Attention | None:
    """Read an attention module; None if no row fits it.

    Raises:
        ArchitectureError: its shapes do not agree with one another.
    """
    row = layout_of(model, name, module)
    if row is None:
        return None
    reader = _Reader(model, name, module, row)
    return reader.read() if reader.counts_heads() else None


def pair_size(found: Attention) -> int:
    """MACs of a head for each pair of tokens: query times key, and attention weight times value."""
    return found.size_of_key + found.head_size


def whole_norms(found: Attention) -> tuple[str, ...]:
    """Paths of the norms that take all heads together."""
    parts = (part for part in (*found.groups, *found.heads) if part.whole)
    paths = (part.module.removeprefix(f"{found.name}.") for part in parts)
    return tuple(dict.fromkeys(path for path in paths if path in names.NORMS))


class _Reader:
    """Reads one attention module."""

    def __init__(
        self, model: nn.Module, name: str, module: nn.Module, row: AttentionLayout
    ) -> None:
        self.model, self.name, self.module, self.row = model, name, module, row
        self.values = vars(module)
        self.maps = {path: module.get_submodule(path) for path in row.projections}
        self.output_name = resolve(name, row.output)
        self.output = model.get_submodule(self.output_name)

    def counts_heads(self) -> bool:
        """Whether the module has an attribute for the number of heads or their size.

        Without one it may be any module with such projections. Attention that was emptied has an
        output projection without inputs, and passes.
        """
        return bool(self._attribute(names.NUM_HEADS) or self._attribute(names.HEAD_SIZE)) or (
            not width(self.output, 1)
        )

    def read(self) -> Attention:
        """The counts, sizes and parts.

        The inputs of the output projection are divided into heads, since these are what the gates
        multiply. Queries and keys may have another width.
        """
        inner = width(self.output, 1)
        heads = self._attribute(names.NUM_HEADS)
        size = self._attribute(names.HEAD_SIZE)
        if not inner:
            return self._without_heads(size or 1)
        if not heads or inner % heads:
            if not size or inner % size:
                raise ArchitectureError(
                    f"units(model): {self.name} has an output projection of {inner} inputs, which "
                    f"neither its number of heads ({heads}) nor its head size ({size}) divides."
                )
            heads = inner // size
        self.heads, self.size = heads, inner // heads
        self.groups = self._num_groups(size or self.size)
        if heads % self.groups:
            raise ArchitectureError(
                f"units(model): {self.name} has {heads} query heads and {self.groups} key-value "
                "heads; the number of query heads must be a multiple of that."
            )
        self._check_widths()
        return Attention(
            name=self.name,
            row=self.row,
            num_heads=heads,
            num_groups=self.groups,
            head_size=self.size,
            size_of_query=size or self.size,
            size_of_key=self._size_of_key(),
            shares_keys=self.groups < heads or self._knows_groups(),
            heads=tuple(self._head_parts()),
            groups=tuple(self._group_parts()),
        )

    def _check_widths(self) -> None:
        """Refuse projections whose width does not agree with the number of heads."""
        widths = {path: width(mapping, 0) for path, mapping in self.maps.items()}
        if not self._widths_fit(widths):
            raise ArchitectureError(
                f"units(model): the projections of {self.name} are {widths} wide, which does not "
                f"go with {self.heads} query heads and {self.groups} key-value heads of size "
                f"{self.size}. If the weights are quantised, load the model unquantised."
            )

    def _widths_fit(self, widths: dict[str, int]) -> bool:
        row, heads, groups = self.row, self.heads, self.groups
        if row.packing in ("stacked", "groups"):
            return widths[row.fused] == ((0 if row.query else heads) + 2 * groups) * self.size
        if row.packing != "separate" or row.keys_per_head:
            return all(full % heads == 0 for full in widths.values())
        if widths[row.value] != groups * self.size:
            return False
        # Before a norm over all heads, queries and keys keep their dense width in a cut model.
        if self._norm(row.query) or self._norm(row.key):
            return True
        query, more = divmod(widths[row.query], heads)  # may also make a gate: a multiple of a key
        key, rest = divmod(widths[row.key], groups)
        whole = not more and not rest and key > 0 and query % key == 0
        return whole and key in (query, self._each())

    def _without_heads(self, size: int) -> Attention:
        return Attention(
            name=self.name,
            row=self.row,
            num_heads=0,
            num_groups=0,
            head_size=size,
            size_of_query=size,
            size_of_key=size,
            shares_keys=self._knows_groups(),
            heads=(),
            groups=(),
        )

    def _knows_groups(self) -> bool:
        known = any(name in self.values for name in (*names.NUM_GROUPS, *names.HEADS_PER_GROUP))
        return known and not self.row.keys_per_head

    def _attribute(self, options: tuple[str, ...]) -> int:
        found = (self.values[name] for name in options if name in self.values)
        return next((value for value in found if isinstance(value, int)), 0)

    def _num_groups(self, size: int) -> int:
        """The number of key-value heads, from the width of the projection that makes values."""
        row = self.row
        if row.keys_per_head or row.packing == "heads":
            return self.heads
        if row.packing == "groups":
            total = width(self.maps[row.fused], 0) // self.size
            return (total - self.heads) // 2
        if row.fused:
            total = width(self.maps[row.fused], 0) // self.size
            return total // 2 if row.query else (total - self.heads) // 2
        return max(1, width(self.maps[row.value], 0) // self.size)

    def _norm(self, path: str) -> list[str]:
        """Names of the norms over all heads that a projection's outputs go through.

        A norm with a weight of one head's width works on each head alone, and is not among them.
        """
        if not path or path not in (self.row.query, self.row.key):
            return []
        queries = path == self.row.query
        found = []
        for name in names.NORMS:
            norm = None if name in self.row.shared else child(self.module, name)
            if norm is None or name == "v_norm" or (name in names.QUERY_NORMS) != queries:
                continue
            weight = tensors(norm).get("weight")
            full = width(self.maps[path], 0)
            if weight is not None and weight.ndim == 1 and weight.numel() == full != self._each():
                found.append(name)
        return found

    def _size_of_key(self) -> int:
        """The width of a head's key, which may differ from that of its value."""
        row = self.row
        if row.keys_per_head:
            return width(self.maps[row.query], 0) // self.heads
        if row.packing == "heads":  # a head's share is query, key and value; the first two alike
            return (width(self.maps[row.fused], 0) // self.heads - self.size) // 2
        if row.fused:
            return self.size
        if self._norm(row.key):
            return self._each()
        return width(self.maps[row.key], 0) // self.groups

    def _each(self) -> int:
        return self._attribute(names.HEAD_SIZE) or self.size

    # The parts of one unit: of a head, or of a group, a key-value head with its query heads.
    # ``count`` is the number of units, ``share`` the query heads of each.

    def _head_parts(self) -> Iterator[Part]:
        row, count = self.row, self.heads
        grouped = self.groups < count  # then keys and values belong to the key-value heads alone
        if row.query:
            yield from self._outputs(row.query, "query", count)
        if row.fused:
            yield from self._fused(count, 1, keys=not grouped)
        elif not grouped:
            yield from self._keys_and_values(count)
        yield from self._inputs(count, 1)
        yield from self._per_head(count)

    def _group_parts(self) -> Iterator[Part]:
        row, count = self.row, self.groups
        share = self.heads // count
        if row.query:
            yield from self._outputs(row.query, "query", count)
        if row.fused:
            yield from self._fused(count, share, keys=True)
        else:
            yield from self._keys_and_values(count)
        yield from self._inputs(count, share)
        yield from self._per_head(count)

    def _keys_and_values(self, count: int) -> Iterator[Part]:
        roles = {self.row.value: "value", self.row.key: "key"}  # one map may make both
        for path, role in reversed(roles.items()):
            yield from self._outputs(path, role, count)

    def _outputs(self, path: str, role: str, count: int) -> Iterator[Part]:
        mapping = self.maps[path]
        norms = self._norm(path)
        share = self.heads // count if path == self.row.query else 1
        # Before a norm over all heads the map keeps its dense width, also after a cut: its width
        # divided by the heads that are left would be no head's.
        size = self._each() * share if norms else width(mapping, 0) // count
        starts = range(0, count * size, size)
        yield from self._weight_and_bias(path, mapping, role, size, starts, whole=bool(norms))
        for norm in norms:
            for name in tensors(self.module.get_submodule(norm)):
                yield Part(
                    module=resolve(self.name, norm),
                    name=name,
                    dim=0,
                    role="other",
                    width=size,
                    starts=starts,
                    whole=True,
                )

    def _fused(self, count: int, share: int, *, keys: bool) -> Iterator[Part]:
        """The slices of a fused projection's outputs, in the order that ``packing`` says."""
        row, mapping, size = self.row, self.maps[self.row.fused], self.size
        if row.packing == "groups":
            # A block is one key-value head: its queries, its key, its value. A key-value head owns
            # the block; a query head owns its query in it.
            block = (self.heads // self.groups + 2) * size
            each = block if count == self.groups else size
            inside = range(1 if count == self.groups else self.heads // self.groups)
            starts = tuple(g * block + j * size for g in range(self.groups) for j in inside)
            yield from self._weight_and_bias(row.fused, mapping, "value", each, starts)
        elif row.packing == "heads":
            each = width(mapping, 0) // count
            starts = range(0, count * each, each)
            yield from self._weight_and_bias(row.fused, mapping, "value", each, starts)
        else:
            # All queries, then all keys, then all values. Keys begin at 0 where queries have a
            # projection of their own.
            first = 0 if row.query else self.heads * size
            if not row.query:
                starts = range(0, first, share * size)
                yield from self._weight_and_bias(row.fused, mapping, "query", share * size, starts)
            for role in ("key", "value") if keys else ():
                starts = range(first, first + self.groups * size, size)
                yield from self._weight_and_bias(row.fused, mapping, role, size, starts)
                first += self.groups * size

    def _weight_and_bias(
        self,
        path: str,
        mapping: nn.Module,
        role: str,
        size: int,
        starts: range | tuple[int, ...],
        *,
        whole: bool = False,
    ) -> Iterator[Part]:
        for name in tensors(mapping):
            dim = output_dim(mapping) if name == "weight" else 0
            yield Part(
                module=resolve(self.name, path),
                name=name,
                dim=dim,
                role=role,
                width=size,
                starts=starts,
                whole=whole,
            )

    def _inputs(self, count: int, share: int) -> Iterator[Part]:
        """The inputs of the output projection. Its bias belongs to no head."""
        size = share * self.size
        yield Part(
            module=self.output_name,
            name="weight",
            dim=1 - output_dim(self.output),
            role="output",
            width=size,
            starts=range(0, count * size, size),
        )

    def _per_head(self, count: int) -> Iterator[Part]:
        """Shares of maps, parameters and outside tensors that hold something for each head.

        A tensor with fewer entries than units is skipped: it belongs to key-value heads.
        """
        for path in names.PER_HEAD_MAPS:
            mapping = child(self.module, path)
            if mapping is not None and width(mapping, 0) and width(mapping, 0) % count == 0:
                size = width(mapping, 0) // count
                starts = range(0, count * size, size)
                yield from self._weight_and_bias(path, mapping, "other", size, starts)
        for parameter, tensor in self.module.named_parameters():
            dim = self._head_dim(parameter, tensor.shape)
            if dim is not None and tensor.shape[dim] % count == 0:
                size = tensor.shape[dim] // count
                path, _, leaf = parameter.rpartition(".")
                yield Part(
                    module=resolve(self.name, path) if path else self.name,
                    name=leaf,
                    dim=dim,
                    role="other",
                    width=size,
                    starts=range(0, count * size, size),
                )

        for name, dim in outside(self.model, self.name, self.row).items():
            path, _, leaf = name.rpartition(".")
            full = self.model.get_submodule(path).get_parameter(leaf).shape[dim]
            size = full // count
            starts = range(0, full, size)
            yield Part(module=path, name=leaf, dim=dim, role="other", width=size, starts=starts)

    def _head_dim(self, parameter: str, shape: tuple[int, ...]) -> int | None:
        """The dimension of a tensor that counts heads; None if it has none."""
        if parameter in names.PER_HEAD:
            return names.PER_HEAD[parameter] % len(shape)
        top, _, _ = parameter.partition(".")
        is_norm = top in names.NORMS and len(shape) > 1  # [heads, head size]: a weight for each
        return 0 if is_norm else None


def outside(model: nn.Module, name: str, row: AttentionLayout) -> dict[str, int]:
    """Tensors outside of an attention module that its heads share out -> dimension of the heads."""
    tables = {resolve(name, path): dim for path, dim in row.outside.items()}
    return {path: dim for path, dim in tables.items() if child(model, path.rpartition(".")[0])}


def per_head_tensors(model: nn.Module, found: Attention) -> list[str]:
    """The module's parameters with a share for each head, except a table of position biases."""
    table = f"{found.row.bias_table}.weight"
    own = model.get_submodule(found.name).named_parameters()
    return [name for name, _ in own if name in names.PER_HEAD and name != table]


def skips(model: nn.Module, found: Attention) -> bool:
    """Whether attention without heads is not computed; else it runs on with one head of zeros."""
    return found.row.skips or bool(per_head_tensors(model, found))
