"""The shape of a network. This module does not import torch."""
from __future__ import annotations

from dataclasses import asdict, dataclass

CELLS = ("rnn", "gru", "lstm")
# A model may come from a stranger. Each token of a text takes memory for each of these sizes, each layer takes time.
LARGEST = {"vocabulary_size": 1_000_000, "embedding_size": 16_384, "hidden_size": 16_384, "layers": 64}


@dataclass(frozen=True)
class Architecture:
    """The parameters that give the network its shape.

    vocabulary_size  tokens, `<unk>` and `<eos>` included
    cell             "rnn" (Elman, tanh), "gru" or "lstm"
    embedding_size   width of the embedding and of the tied output layer
    hidden_size      width of each recurrent layer (its cell state)
    layers           recurrent layers, one above the other
    projection_size  width of the LSTM's output and recurrence; 0: as wide as the cell
    """

    vocabulary_size: int
    cell: str = "lstm"
    embedding_size: int = 256
    hidden_size: int = 512
    layers: int = 1
    projection_size: int = 0

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell is {self.cell!r}; accepted: {', '.join(CELLS)}")
        for name, largest in LARGEST.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} is {getattr(self, name):,}; it must be from 1 to {largest:,}")
        if self.projection_size and self.cell != "lstm":
            raise ValueError(f"projection_size is for the lstm cell; the cell is {self.cell!r}")
        if not 0 <= self.projection_size < self.hidden_size:
            raise ValueError(
                f"projection_size is {self.projection_size}; it must be 0 or less than hidden_size {self.hidden_size}"
            )

    @property
    def output_size(self) -> int:
        """Width of a recurrent layer's output."""
        return self.projection_size or self.hidden_size

    @property
    def state_sizes(self) -> list[int]:
        """Widths of the parts of the state, in order: h, and for the lstm c, of each layer."""
        return [self.output_size, self.hidden_size][: 2 if self.cell == "lstm" else 1] * self.layers

    def to_dict(self) -> dict[str, str | int]:
        return asdict(self)
