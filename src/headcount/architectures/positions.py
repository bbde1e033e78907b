"""How many tokens a model can read."""

from torch import nn

TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
"""Names of embedding modules with one vector for each position."""


def max_tokens(model: nn.Module) -> int | None:
    """The longest input of a model in tokens, from its table of position embeddings.

    RoBERTa's first position is the padding token's number plus one, so its table of 514 rows holds
    512 positions. BART's table has two rows more than ``max_position_embeddings``, which counts.

    Args:
        model: on any device, also on the meta device.

    Returns:
        The least of all tables and of ``max_position_embeddings``; None for a model without such a
        table, whose positions are relative or rotary, say.

    Example:
        >>> import transformers
        >>> max_tokens(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)))
        512
        >>> config = transformers.RobertaConfig(num_hidden_layers=1, max_position_embeddings=514)
        >>> max_tokens(transformers.RobertaModel(config))
        512
    """
    stated = getattr(vars(model).get("config"), "max_position_embeddings", None)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in TABLES:
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            found.append(module.num_embeddings - skipped)
    return min([*found, *([stated] if isinstance(stated, int) else [])]) if found else None
