"""How many tokens a model can read."""

from torch import nn

TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
"""Names of the modules that have a vector for each position."""


def max_tokens(model: nn.Module) -> int | None:
    """The most tokens that a model reads: one for each row of its table of positions.

    RoBERTa and its kin count positions from behind the number of the padding token, and so read
    two tokens fewer than the table has rows. Bart's table has two more than its configuration says.

    Args:
        model: on any device, the meta device too.

    Returns:
        The number, the least of all tables; None for a model without such a table, as where
        positions are relative or rotary.

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
