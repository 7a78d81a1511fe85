"""The windows of a text, in the order in which training reads them."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from nextword.lm.vocabulary import EOS_ID

SCANNED = 2**22  # tokens searched for ends of paragraphs at a time
Item = TypeVar("Item")


class Windows:
    """Windows for truncated back-propagation: `batch` reading heads, which move `bptt` tokens in each step.

    The text is cut into `batch` long rows. Head i reads row i from left to right, so its state at the beginning of a
    window is that after the words just before. With the alphabet, batch 3 and bptt 4:

        row 0: a b c d | e f g h        step 0 reads a..d, i..l, q..t and predicts b..e, j..m, r..u
        row 1: i j k l | m n o p        step 1 reads e..h, …
        row 2: q r s t | u v w x        (y and z are left over)

    With `shuffle_block` > 0 the text is first cut at ends of paragraphs into blocks of at least that many tokens. The
    blocks are read in an order drawn from `seed` and the epoch, so joined corpora are mixed. 0 keeps the text's order.

    `share` selects the heads of one process among several.
    """

    def __init__(self, tokens: np.ndarray, batch: int, bptt: int, shuffle_block: int = 0, seed: int = 0,
                 share: slice = slice(None)):
        self.tokens, self.batch, self.bptt, self.seed = tokens, batch, bptt, seed
        self.heads = range(batch)[share]
        self.row = (len(tokens) - 1) // batch
        if self.row < 1:
            raise ValueError(f"the text has {len(tokens) - 1:,} tokens, too few for batch_size {batch}")
        self.steps = -(-self.row // bptt)
        self.starts = self._block_starts(shuffle_block) if shuffle_block else np.zeros(1, np.int64)
        self.lengths = np.diff(np.append(self.starts, len(tokens)))

    def _block_starts(self, size: int) -> np.ndarray:
        """The starts of the blocks: after the first end of a paragraph at or after each multiple of `size`."""
        starts, last = [np.zeros(1, np.int64)], 0
        for begin in range(0, len(self.tokens), SCANNED):
            ends = begin + 1 + np.flatnonzero(self.tokens[begin : begin + SCANNED] == EOS_ID)
            starts.append(ends[np.diff(ends // size, prepend=last) > 0])
            last = int(ends[-1]) // size if len(ends) else last
        joined = np.concatenate(starts)
        return joined[joined < len(self.tokens)]

    def epoch(self, number: int, first_step: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The windows of an epoch from a step on: inputs and targets, each (time, heads) int64."""
        order = np.arange(len(self.starts))
        if len(order) > 1:
            np.random.default_rng([self.seed, number]).shuffle(order)
        starts, ends = self.starts[order], np.cumsum(self.lengths[order])
        for step in range(first_step, self.steps):
            left = step * self.bptt
            right = min(left + self.bptt, self.row) + 1
            rows = [self._tokens_between(starts, ends, i * self.row + left, i * self.row + right) for i in self.heads]
            window = torch.from_numpy(np.stack(rows, axis=1))
            yield window[:-1], window[1:]

    def _tokens_between(self, starts: np.ndarray, ends: np.ndarray, left: int, right: int) -> np.ndarray:
        """Tokens left..right of the joined blocks."""
        block, pieces = int(np.searchsorted(ends, left, side="right")), []
        while left < right:
            offset = left - (ends[block - 1] if block else 0)
            take = min(right, ends[block]) - left
            pieces.append(self.tokens[starts[block] + offset : starts[block] + offset + take])
            left, block = left + take, block + 1
        return np.concatenate(pieces).astype(np.int64)


def prepared_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items. A thread prepares the next one while the caller works on this one."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item
