"""Damaged bundles: each file cut off, with one bit changed, empty, missing, or another bundle's."""
from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nextword.lm import BundleError, open_bundle
from nextword.lm.bundle import ENGLISH, write_bundle
from tests.torture.promise import Promise
from tests.torture.service import SERVE

PROMISE = "A damaged bundle is refused, in one line that says which and why"


def damage(bundle: Path | None, folder: Path, bits: int = 200, started: int = 15) -> Iterator[Promise]:
    """Damages a copy of the bundle in each way and opens it; starts the service with `started` of these."""
    whole, damaged = bundle or ENGLISH, folder / "damaged"
    metadata = open_bundle(whole).metadata
    other = write_bundle(folder / "other", b"another program", "{}", {"name": "other"}).path
    draw = random.Random(0)
    taken, refused, harmless, said = [], 0, 0, []
    for file in sorted(path.name for path in whole.iterdir()):
        for way, content in _ways((whole / file).read_bytes(), (other / file).read_bytes(), bits, draw):
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(whole, damaged)
            (damaged / file).unlink() if content is None else (damaged / file).write_bytes(content)
            try:
                if open_bundle(damaged).metadata == metadata:  # another blank in the JSON
                    harmless += 1
                else:
                    taken.append(f"{file} {way}")
            except BundleError:
                refused += 1
            if way != "with a bit flipped" or draw.random() < 1 / bits:
                said.append((f"{file} {way}", _start(damaged) if len(said) < started else None))
    yield Promise(PROMISE, f"each file truncated, emptied, removed, swapped with another bundle's, {bits} times with a bit flipped",
                  not taken, f"{refused} refused, {harmless} mean the same; taken: {', '.join(taken[:5]) or 'none'}{' …' if taken[5:] else ''}")  # fmt: skip
    said = [(way, done) for way, done in said if done]
    wrong = [way for way, done in said if not _is_clear(done, damaged)]
    yield Promise(PROMISE, f"`python -m nextword.serve` with {len(said)} of these", not wrong,
                  f"exit status 2 and one line each; not so: {', '.join(wrong) or 'none'}")  # fmt: skip


def _ways(content: bytes, other: bytes, bits: int, draw: random.Random) -> Iterator[tuple[str, bytes | None]]:
    yield "missing", None
    yield "empty", b""
    yield "cut off in the middle", content[: len(content) // 2]
    yield "without its last bytes", content[:-2]
    yield "of another bundle", other
    for _ in range(bits):
        place, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        yield "with a bit flipped", content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def _start(bundle: Path) -> subprocess.CompletedProcess:
    return subprocess.run([*SERVE, "--bundle", str(bundle), "--port", "0"], capture_output=True, text=True, timeout=60)


def _is_clear(done: subprocess.CompletedProcess, bundle: Path) -> bool:
    return done.returncode == 2 and done.stderr.count("\n") == 1 and str(bundle) in done.stderr
