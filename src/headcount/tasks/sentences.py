"""Sentence encoders: what comes behind the Transformer in a folder of sentence-transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, final

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from headcount.checkpoints.loading import said
from headcount.door.extras import needing
from headcount.errors import CheckpointError


class _NoTransformer(nn.Module):
    """Stands where an encoder has its Transformer: it is neither kept nor saved here."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the pruned model is in the folder already."""


@final
class SentenceProcessor:
    """The tokenizer of a sentence encoder, and the modules behind its Transformer.

    The modules (pooling, normalisation, layers that change the width) are those of
    sentence-transformers, which loads what ``save_pretrained`` writes beside a model.
    """

    def __init__(self, encoder: Any, *, prompt: str = "") -> None:
        """Take an encoder apart.

        Args:
            encoder: a ``SentenceTransformer``; its Transformer is given up.
            prompt: what goes in front of each text; empty takes what the encoder does by default.
        """
        first = encoder[0]
        name = "model" if "model" in first._modules else "auto_model"
        first._modules[name] = _NoTransformer()
        self._encoder = encoder
        self._behind: list[nn.Module] = list(encoder)[1:]
        self.prompt: str = prompt or encoder.prompts.get(encoder.default_prompt_name) or ""
        """What goes in front of each text."""

    @classmethod
    def load(cls, model: str, *, prompt: str = "") -> "SentenceProcessor":
        """Load it from the folder or the hub id of a model.

        Of a model without ``modules.json`` the vectors are the mean over its tokens, which is what
        sentence-transformers makes of it, too.

        Raises:
            CheckpointError: sentence-transformers cannot load it, or it is no single Transformer
                with text as its input.
            MissingPackageError: sentence-transformers is not installed.
        """
        with needing("task 'embedding'"):
            from sentence_transformers import SentenceTransformer
        try:
            encoder: Any = SentenceTransformer(model, device="cpu", trust_remote_code=False)
            known = isinstance(encoder.tokenizer, PreTrainedTokenizerBase)
        except Exception as error:  # the modules have readers of their own, which raise anything
            raise CheckpointError(
                f"model {model!r}: sentence-transformers cannot load it: {said(error)}. Give a "
                "folder or hub id of a sentence encoder, or of a Transformer with its tokenizer."
            ) from error
        if not known or not hasattr(encoder[0], "auto_model"):
            raise CheckpointError(
                f"model {model!r}: its first module is {type(encoder[0]).__name__}. Give a "
                "sentence encoder that begins with a Transformer over text."
            )
        return cls(encoder, prompt=prompt)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the Transformer."""
        return cast(PreTrainedTokenizerBase, self._encoder.tokenizer)

    def prompt_tokens(self) -> int:
        """The number of tokens of the prompt, which some encoders leave out of their mean."""
        if not self.prompt:
            return 0
        # Without the token that ends the text.
        return len(self.tokenizer(self.prompt)["input_ids"]) - 1

    def vectors(
        self, tokens: Float[Tensor, "batch t d"], attention_mask: Tensor
    ) -> Float[Tensor, "batch e"]:
        """The vectors of texts, from the last hidden states of the Transformer.

        Args:
            tokens: hidden states, [B, T, D].
            attention_mask: 1 for tokens, 0 for padding, [B, T].
        """
        features: dict[str, Any] = {"token_embeddings": tokens, "attention_mask": attention_mask}
        if self.prompt:
            features["prompt_length"] = self.prompt_tokens()
        for module in self._behind:
            features = module.to(tokens.device)(features)
        return features["sentence_embedding"]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write all but the Transformer's weights, so that sentence-transformers loads the folder.

        Args:
            folder: the folder of a saved model.
        """
        self._encoder.save(str(folder), create_model_card=False)


def relative_error(
    vectors: Float[Tensor, "batch e"], dense: Float[Tensor, "batch e"]
) -> Float[Tensor, ""]:
    """Squared distance to the dense model's vectors, over the square of their mean length.

    For vectors of length one it is twice the mean of one minus the cosine.

    Example:
        >>> import torch
        >>> relative_error(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])).item()
        2.0
    """
    dense = dense.to(vectors.dtype)
    return (vectors - dense).square().sum(-1).mean() / dense.square().sum(-1).mean()


def last_hidden(outputs: Any) -> Tensor:
    """The last hidden states of a model's output, [B, T, D].

    Raises:
        CheckpointError: there are none.
    """
    found = outputs.get("last_hidden_state") if isinstance(outputs, Mapping) else None
    if found is None:
        raise CheckpointError(
            f"task 'embedding': the model gives no last_hidden_state, only {sorted(outputs)}. "
            "Give a Transformer without a head."
        )
    return found
