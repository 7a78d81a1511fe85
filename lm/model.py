"""A model in use: from a text to the words that may come next."""
from __future__ import annotations

import os
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from lm import torchscript
from lm.bundle import Bundle, BundleError, open_bundle
from lm.ranking import Ranking, Word
from lm.vocabulary import EOS_ID, Vocabulary


def load(path: str | os.PathLike | None = None) -> Model:
    """The model in a bundle's folder; None: the English model that comes with the project.

    Raises BundleError, which says what is wrong with the bundle.
    """
    bundle = open_bundle(path)
    try:
        return Model(bundle, Vocabulary.from_file(bundle.tokenizer_file), torchscript.load(bundle.model_file))
    except Exception as error:  # `tokenizers` raises plain Exceptions, torch several kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{bundle.path} cannot be loaded: {reason}") from error


class Model:
    """What a trained model can do. The text that comes before is its context; the empty text is the start of one.

    >>> model = load()
    >>> model.next_words("Thank you very", k=1)[0].word
    'much'
    """

    def __init__(self, bundle: Bundle, vocabulary: Vocabulary, program: torch.jit.ScriptModule):
        self.metadata, self.name = bundle.metadata, bundle.name
        self.vocabulary, self.program = vocabulary, program
        self._ranking = Ranking(vocabulary)
        width = self.read([[EOS_ID]])[0].shape[1]
        if width != len(vocabulary):
            raise ValueError(f"the network has {width:,} tokens and the tokenizer {len(vocabulary):,}")

    def next_words(self, text: str = "", k: int = 5, *, partial: str = "", punctuation: bool = False,
                   exclude: Collection[str] = ()) -> list[Word]:
        """The k words that most probably follow a text, best first.

        text: whole words; white space at its end changes nothing, line breaks end a paragraph.
        partial: the beginning of the next word, where some of it is typed already; see `Ranking.best`.
        punctuation: offer punctuation marks and numbers too. exclude: words that are not wanted.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        log_probs, _ = self.read([self.encode(text)])
        return self.rank(log_probs[0], k, partial=partial, punctuation=punctuation, exclude=exclude)

    def encode(self, text: str) -> list[int]:
        """Token ids of a context: `<eos>`, where a text begins, then the text's own."""
        return [EOS_ID, *self.vocabulary.encode(text)]

    @torch.no_grad()
    def read(self, sequences: Sequence[Sequence[int]], states: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read token ids, a batch of sequences of any lengths, each from its state.

        states: (batch, S) as returned by an earlier call, to go on from there; None: from the start.
        Returns log_probs (batch, V) float32, natural logarithms for the token after each sequence, and the new states.
        """
        tokens, lengths = padded(sequences)
        if states is None:
            states = self.program.initial_state(len(sequences))
        states = self.program.read(tokens, lengths, states)
        return self.program.log_probs(self.program.output(states)), states

    def rank(self, log_probs: Tensor, k: int, *, partial: str = "", punctuation: bool = False,
             exclude: Collection[str] = ()) -> list[Word]:
        """The k best words of one distribution (V,): see `Ranking.best`."""
        return self._ranking.best(log_probs, k, partial=partial, punctuation=punctuation, exclude=exclude)

    def word_rank(self, log_probs: Tensor, ids: Tensor) -> Tensor:
        """The place (0: the best) of words among all suggestions: log_probs (n, V), ids (n,) → (n,) int64."""
        return self._ranking.rank(log_probs, ids)


def padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Sequences of any lengths as tokens (batch, longest) int64, padded at the right, and lengths (batch,) int64."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    tokens = torch.full((len(sequences), int(lengths.max())), EOS_ID)
    for row, sequence in zip(tokens, sequences):
        row[: len(sequence)] = torch.tensor(sequence, dtype=torch.long)
    return tokens, lengths
