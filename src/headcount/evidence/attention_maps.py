"""Attention maps as evidence."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from headcount.errors import ArchitectureError
from headcount.evidence.collector import Call, PassCollector, When
from headcount.units.kinds import KIND
from headcount.units.site import Site


@final
class AttentionMaps(PassCollector):
    """The attention maps of all heads, [B, Q, K, N], from a pass of the whole model.

    Only transformers' ``eager`` attention returns maps. So the pass of the whole model runs with
    it, and the gated pass with the model's own setting. Sites with fewer queries or keys than
    others (cross-attention) are padded with zeros. A module that is called several times gives the
    mean of its maps.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> collector = AttentionMaps(model, hc.units(model, "head"))
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> collector.begin(Call(model, (ids,), {}))
        >>> maps = collector.end(model(ids))
        >>> maps.shape, maps.sum(2).allclose(torch.ones(()))
        (torch.Size([1, 3, 3, 12]), True)
        >>> collector.remove()
    """

    field: ClassVar[str] = "attention_maps"
    when: ClassVar[When] = "before a pass"

    def _hooks(self) -> Iterator[RemovableHandle]:
        others = {site.kind for site in self._units.sites} - {"head"}
        if others:
            raise ArchitectureError(
                f"attention_maps: {', '.join(sorted(KIND[kind].nouns for kind in others))} have no "
                "attention maps, only heads do. Give a budget of heads, or another method."
            )
        self._watching = False
        self._before: list[tuple[PreTrainedModel, str | None]] = []
        self._seen: dict[str, list[Tensor]] = defaultdict(list)
        for site in self._units.sites:
            module = self._model.get_submodule(site.module)
            yield module.register_forward_hook(partial(self._take, site))

    def begin(self, call: Call) -> None:
        """Switch to attention that returns its maps."""
        self._watching = True
        self._seen.clear()
        inner = (m for m in self._model.modules() if isinstance(m, PreTrainedModel))
        self._before = [(m, m.config._attn_implementation) for m in inner]
        for module, _ in self._before:
            module.config._attn_implementation = "eager"

    def end(self, output: Any) -> Tensor | None:
        """Switch back, and return the maps of the pass, [B, Q, K, N].

        Raises:
            ArchitectureError: some attention has returned no map.
        """
        self._watching, seen = False, dict(self._seen)
        self._seen.clear()
        for module, name in self._before:
            module.config._attn_implementation = name
        self._before = []
        if output is None:
            return None
        missing = [site.module for site in self._units.sites if site.module not in seen]
        if missing:
            raise ArchitectureError(
                f"attention_maps: {missing[0]} ({len(missing)} in all) returns no attention "
                "maps. Give a model whose attention can be 'eager', or another method."
            )
        # A module that several layers share (ALBERT) is called once for each of them.
        each = (torch.stack(seen[site.module]).mean(0) for site in self._units.sites)
        maps = [one.movedim(1, -1) for one in each]  # [B, Q, K, H]
        most = [max(sizes) for sizes in zip(*(one.shape[1:3] for one in maps), strict=True)]
        return torch.cat([_padded(one, *most) for one in maps], -1)

    def _take(self, site: Site, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._watching or not isinstance(output, tuple):
            return
        for part in output[1:]:
            if isinstance(part, Tensor) and _is_map(part, site.num_units):
                self._seen[site.module].append(part.detach())
                return


def _is_map(x: Tensor, num_heads: int) -> bool:
    """Whether a tensor has a distribution over keys for each head and query, [B, H, Q, K].

    T5's attention also hands out its position biases, which have the same shape.

    Example:
        >>> _is_map(torch.full((1, 2, 3, 4), 0.25), 2), _is_map(torch.zeros(1, 2, 3, 4), 2)
        (True, False)
    """
    if x.ndim != 4 or x.shape[1] != num_heads or not x.numel():
        return False
    return bool((x >= 0).all()) and bool(((x.float().sum(-1) - 1).abs() < 0.01).all())


def _padded(maps: Tensor, num_queries: int, num_keys: int) -> Tensor:
    """Maps padded with zeros to the given numbers of queries and keys, [B, Q, K, H].

    Example:
        >>> _padded(torch.ones(1, 2, 2, 1), 2, 3)[0, :, :, 0]
        tensor([[1., 1., 0.],
                [1., 1., 0.]])
    """
    more = (0, 0, 0, num_keys - maps.shape[2], 0, num_queries - maps.shape[1])
    return nn.functional.pad(maps, more)
