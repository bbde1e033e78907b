"""Load what makes a model's inputs out of data, and check how much a model reads."""

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from headcount.architectures.positions import max_tokens
from headcount.checkpoints.loading import loading, said
from headcount.errors import CheckpointError, DataError


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    For a folder without tokenizer files, transformers makes a tokenizer without a vocabulary, to
    which every word is unknown. That is refused.

    Raises:
        CheckpointError: there is no tokenizer, or it knows no words.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # the files of tokenizers have many readers
        raise CheckpointError(
            f"model {model!r}: its tokenizer cannot be loaded: {said(error)}. Save the tokenizer "
            "that it was trained with into its folder."
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise CheckpointError(
            f"model {model!r} has no tokenizer of its own: the one that transformers makes for it "
            "knows no word. Save the tokenizer that it was trained with into its folder."
        )
    return tokenizer


def check_length(model: str, max_length: int) -> None:
    """Refuse a length of examples that the model cannot read.

    A model without a table of positions reads any length, whatever its configuration says.

    Raises:
        DataError: the model has positions for fewer tokens.
    """
    with torch.device("meta"):
        with loading(model):
            config = AutoConfig.from_pretrained(model, trust_remote_code=False)
            whole = AutoModel.from_config(config, trust_remote_code=False)
        longest = max_tokens(whole)
    if longest is not None and max_length > longest:
        raise DataError(
            f"max_length={max_length}: the model {model!r} reads at most {longest} tokens. Give "
            f"{longest} or fewer."
        )
