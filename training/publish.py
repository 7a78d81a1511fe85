"""`python -m nextword.training.publish runs/english-7/bundle lm/bundles/english`: a run's bundle, put where it is offered.

It takes the folder's name, and what else lies in the folder, as a model card, stays.
"""
from __future__ import annotations

import sys
from pathlib import Path

from nextword.lm.bundle import MODEL, TOKENIZER, Bundle, open_bundle, write_bundle

MADE = ("format", "files", "sha256")  # of a description, by `write_bundle`


def publish(source: Path, target: Path) -> Bundle:
    """Raises BundleError where the source is no bundle or the target is something else."""
    bundle = open_bundle(source)
    beside = {file: file.read_bytes() for file in target.glob("*.md")}
    metadata = {key: value for key, value in bundle.metadata.items() if key not in MADE} | {"name": target.resolve().name}
    published = write_bundle(target, bundle.content[MODEL], bundle.content[TOKENIZER].decode(), metadata)
    for file, content in beside.items():
        file.write_bytes(content)
    return published


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m nextword.training.publish BUNDLE FOLDER")
    try:
        print(publish(Path(sys.argv[1]), Path(sys.argv[2])).path)
    except ValueError as error:
        sys.exit(f"python -m nextword.training.publish: {error}")
