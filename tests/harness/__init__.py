"""Servers for the tests, the torture and the benchmarks: start them, wait for them, ask them, measure them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
