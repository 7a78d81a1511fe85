"""One run in several processes. `torchrun` starts them, `torch.distributed` joins them (gloo; NCCL between GPUs).

    nextword train --processes 2 …                  # on this machine
    torchrun --nnodes 2 --nproc-per-node 8 \\
        --rdzv-backend c10d --rdzv-endpoint host:29400 -m nextword.training train …     # on each of two machines

The sequences of a step are divided among the processes, so a step reads the same tokens with any number of processes.
Gradients are averaged (DistributedDataParallel), so all processes have the same weights. Only rank 0 evaluates, writes,
and needs the run's folder.
"""
from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

# To prepare a large corpus takes hours. If a process ends, torchrun ends the others, so none waits in vain.
TIMEOUT = timedelta(days=1)
CPU = torch.device("cpu")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """Process number `rank` of `size`, and number `local_rank` of the `local_size` on its machine; one by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def check(self, batch_size: int) -> None:
        """Raises ValueError if the sequences or the GPUs cannot be divided equally."""
        if self.size < 1:
            raise ValueError(f"{self.size} processes cannot train: at least 1 is needed")
        if batch_size % self.size:
            raise ValueError(f"batch_size is {batch_size}, and {self.size} processes cannot share that equally: "
                             f"take a multiple of {self.size}, or another number of processes")
        if torch.cuda.is_available() and self.local_size > torch.cuda.device_count():
            raise ValueError(f"{self.local_size} processes cannot share this machine's {torch.cuda.device_count()} "
                             "GPU: start one process a GPU")

    def device(self) -> torch.device:
        """This process's own GPU, or the CPU if the machine has no GPU."""
        if not torch.cuda.is_available():
            return CPU
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def share(self, heads: int) -> slice:
        """The part of the sequences that this process reads."""
        share = heads // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def synchronised(self, network: nn.Module) -> nn.Module:
        """The network with rank 0's weights. Its gradients are the mean over all processes."""
        if self.size == 1:
            return network
        devices = [self.local_rank] if torch.cuda.is_available() else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True)

    def sums(self, *values: float) -> list[float]:
        """The sum of each value over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes in the order of their ranks, on the CPU. Each process has the same number."""
        if self.size == 1:
            return rows.cpu()
        parts = [torch.empty(rows.shape, dtype=rows.dtype) for _ in range(self.size)]
        dist.all_gather(parts, rows.cpu())
        return torch.cat(parts)

    def once(self, function: Callable[[], Result]) -> Result:
        """Call the function in rank 0, and return or raise its outcome in all processes."""
        if self.size == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome = [function(), None]
            except Exception as error:
                outcome = [None, error]
        dist.broadcast_object_list(outcome, device=CPU)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """One process of each machine runs the block first. Then the others run it and use its cached files."""
        if self.local_rank:
            self.sums(0)
        try:
            yield
        finally:
            if not self.local_rank:
                self.sums(0)


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one. After the block, only rank 0 goes on."""
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    processes = Processes(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    try:
        with redirect_stderr(StringIO()) if processes.rank else nullcontext():  # only rank 0 reports
            yield processes
    finally:
        dist.destroy_process_group()
    if processes.rank:
        # When the interpreter ends, a library's running thread can abort the process ("terminate called without an
        # active exception"). torchrun would then end rank 0 too, while it writes the bundle.
        os._exit(0)


def launch(processes: int, arguments: list[str]) -> int:
    """Run `nextword` with these arguments in several processes on this machine, and return the exit status.

    This is `torchrun` without its reports of errors and signals: rank 0 reports them.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    logging.disable(logging.ERROR)
    try:
        command = ["--standalone", "--nproc-per-node", str(processes), "-m", "nextword.training", *arguments]
        run.run(run.parse_args(command))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status >= 0 else 128 - status
    except SignalException as error:
        return 128 + error.sigval
    return 0
