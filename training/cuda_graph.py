"""A training step on a GPU as one CUDA graph.

A step of a recurrent network has over a thousand small kernels. Python starts them one by one, and the GPU waits for
Python. A CUDA graph records the kernels of one step, and one call replays them.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # steps before the recording, in which torch's libraries allocate their memory


class GraphedStep:
    """Calls a function of tensors, and replays its kernels from the fourth call on.

    The function must work in place, on tensors that exist before the recording; it must not wait for the GPU. All
    arguments are on the GPU. A call with other shapes than the first call's is not replayed.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._arguments: list[Tensor] = []
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *arguments: Tensor) -> Tensor:
        """The function's result; the next call overwrites it."""
        if not self._arguments:
            self._arguments = [argument.clone() for argument in arguments]
        if [argument.shape for argument in arguments] != [own.shape for own in self._arguments]:
            return self._function(*arguments)
        for own, argument in zip(self._arguments, arguments):
            own.copy_(argument)
        if self._calls < WARM_UP:
            self._calls += 1
            return self._on_another_stream()
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._result = self._function(*self._arguments)
        self._graph.replay()
        return self._result

    def _on_another_stream(self) -> Tensor:
        """Torch asks for this in a warm-up: a graph is not recorded on the main stream either."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._function(*self._arguments)
        torch.cuda.current_stream().wait_stream(stream)
        return result
