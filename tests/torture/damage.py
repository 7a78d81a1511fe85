"""Damaged bundles: each file cut off, with one bit flipped, empty, missing, or from another bundle."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nextword.lm import BundleError, open_bundle
from nextword.lm.bundle import DESCRIPTION, ENGLISH, MODEL, TOKENIZER, write_bundle
from tests.harness.service import SERVE
from tests.torture.promise import Promise

PROMISE = "A damaged bundle is refused, in one line that says which and why"


def damage(bundle: Path | None, folder: Path, bits: int = 200, started: int = 15) -> Iterator[Promise]:
    """Damage a copy of the bundle in each way and open it; start the service with `started` of these."""
    whole, damaged = bundle or ENGLISH, folder / "damaged"
    metadata = open_bundle(whole).metadata
    other = write_bundle(folder / "other", b"another program", "{}", {"name": "other"}).path
    draw = random.Random(0)
    accepted: list[str] = []
    starts: list[tuple[str, subprocess.CompletedProcess[str] | None]] = []
    refused = harmless = 0
    for file in (DESCRIPTION, MODEL, TOKENIZER):
        for way, content in _ways((whole / file).read_bytes(), (other / file).read_bytes(), bits, draw):
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(whole, damaged)
            (damaged / file).unlink() if content is None else (damaged / file).write_bytes(content)
            try:
                if open_bundle(damaged).metadata == metadata:  # another blank in the JSON
                    harmless += 1
                else:
                    accepted.append(f"{file} {way}")
            except BundleError:
                refused += 1
            if way != "with a bit flipped" or draw.random() < 1 / bits:
                starts.append((f"{file} {way}", _start(damaged) if len(starts) < started else None))
    yield Promise(
        PROMISE,
        f"each file truncated, emptied, removed, swapped with another bundle's, {bits} times with a bit flipped",
        not accepted,
        f"{refused} refused, {harmless} mean the same; accepted: "
        f"{', '.join(accepted[:5]) or 'none'}{' …' if accepted[5:] else ''}",
    )
    ended = [(way, process) for way, process in starts if process]
    wrong = [way for way, process in ended if not _is_clear(process, damaged)]
    yield Promise(
        PROMISE,
        f"`nextword serve` with {len(ended)} of these",
        not wrong,
        f"exit status 2 and one line each; not so: {', '.join(wrong) or 'none'}",
    )


def _ways(content: bytes, other: bytes, bits: int, draw: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Yield each kind of damage and the content of the damaged file, None where it is missing."""
    yield "missing", None
    yield "empty", b""
    yield "cut off in the middle", content[: len(content) // 2]
    yield "without its last bytes", content[:-2]
    yield "of another bundle", other
    for _ in range(bits):
        place, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        yield "with a bit flipped", content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def _start(bundle: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVE, "--bundle", str(bundle), "--port", "0"], capture_output=True, text=True, timeout=60)


def _is_clear(process: subprocess.CompletedProcess[str], bundle: Path) -> bool:
    """Tell whether the service refused the bundle in one line that names it."""
    return process.returncode == 2 and process.stderr.count("\n") == 1 and str(bundle) in process.stderr
