"""The command lines of the benchmark and of the servers that it starts."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse_peer() -> argparse.Namespace:
    """Read the arguments of a server to compare with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--weights", type=Path)
    return parser.parse_args()


def parse_benchmark(names: list[str], arguments: list[str]) -> argparse.Namespace:
    """Read the arguments of the benchmark, for servers of these names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.serving", description="Measure the service beside others."
    )
    parser.add_argument("--quick", action="store_true", help="fewer loads, once each: a minute instead of ten")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model (default: the English one)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="best.pt of the run that made it, for the model in 32-bit floats"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement too")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of: {', '.join(names)}")
    chosen = parser.parse_args(arguments)
    if chosen.weights and not chosen.weights.is_file():
        parser.error(f"there is no file {chosen.weights}")
    return chosen
