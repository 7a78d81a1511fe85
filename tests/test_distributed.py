"""Several processes train as one does, and take over from one another."""
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from nextword.training.__main__ import main
from nextword.training.distributed import Processes
from nextword.training.windows import Windows
from tests.conftest import TINY

OPTIONS = [*TINY, "--evaluate-every", "50", "--checkpoint-every", "5", "--averaging", "0.9"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def arguments(corpus, out, *options):
    return ["train", "--corpus", str(corpus), "--out", str(out), *OPTIONS, *options]


def start(*arguments):
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, process=None):
    end = time.monotonic() + 300
    while not path.exists() and time.monotonic() < end and not (process and process.poll() is not None):
        time.sleep(0.01)
    assert path.exists(), process and process.communicate()


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, corpus_file):
    """A run of one process that was never stopped."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    assert main(arguments(corpus_file, out)) == 0
    return out


def assert_same_run(out, alone):
    """Up to the rounding of sums in another order."""
    assert len(rows(out)) == len(rows(alone)) > 2
    for ours, theirs in zip(rows(out), rows(alone)):
        assert (ours["step"], ours["tokens"]) == (theirs["step"], theirs["tokens"])
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["validation"]["loss"] == pytest.approx(theirs["validation"]["loss"], rel=1e-3)
    assert rows(out)[0]["loss"] == pytest.approx(rows(alone)[0]["loss"], rel=1e-6)
    assert json.loads((out / "bundle" / "bundle.json").read_text())["training"]["tokens"] == rows(alone)[-1]["tokens"]


def test_a_run_is_stopped_and_goes_on_in_any_number_of_processes(alone, corpus_file, tmp_path):
    out = tmp_path / "run"
    checkpoint = out / "checkpoint.pt"
    process = start(*TORCHRUN, "-m", "nextword.training", *arguments(corpus_file, out))
    wait_for(checkpoint, process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=300)
    assert process.returncode != 0 and output == "" and errors.count("stopped by SIGTERM") == 1, errors
    assert 5 <= torch.load(checkpoint, weights_only=True)["step"] < rows(alone)[-1]["step"]

    first = checkpoint.stat().st_mtime_ns

    def stop():
        end = time.monotonic() + 300
        while checkpoint.stat().st_mtime_ns == first and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert main(arguments(corpus_file, out)) == 128 + signal.SIGTERM
    thread.join()

    process = start("-m", "nextword.training", *arguments(corpus_file, out, "--processes", "2"))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.startswith(str(out / "bundle")) and output.count("\n") == 1
    assert errors.count("Training on") == errors.count("Ended after") == 1 and "Traceback" not in errors
    assert_same_run(out, alone)


def test_a_mistake_is_said_once(corpus_file, tmp_path):
    process = start("-m", "nextword.training", *arguments("no-such.txt", tmp_path / "run", "--processes", "2"))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.startswith("nextword train: there is no corpus 'no-such.txt'") and errors.count("\n") == 1


@pytest.mark.parametrize("processes, message", [
    ("3", "batch_size is 16, and 3 processes cannot share that equally"), ("32", "batch_size is 16, and 32 processes"),
    ("0", "0 processes cannot train"),
])
def test_heads_that_cannot_be_shared_are_refused(corpus_file, tmp_path, capsys, processes, message):
    assert main(arguments(corpus_file, tmp_path / "run", "--processes", processes)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_heads_are_dealt_out_without_overlap():
    tokens = torch.arange(1, 200).numpy()
    whole = list(Windows(tokens, 6, 10).epoch(0))
    shares = [list(Windows(tokens, 6, 10, share=Processes(rank, 3).share(6)).epoch(0)) for rank in range(3)]
    for (inputs, targets), *parts in zip(whole, *shares):
        assert torch.equal(torch.cat([part[0] for part in parts], 1), inputs)
        assert torch.equal(torch.cat([part[1] for part in parts], 1), targets)
