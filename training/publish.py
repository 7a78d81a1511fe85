"""The command `nextword publish BUNDLE FOLDER`: copy a run's bundle to another folder.

The copy gets the folder's name. Markdown files in the folder, such as a model card, stay.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from nextword.lm.bundle import MODEL, TOKENIZER, Bundle, as_name, open_bundle, write_bundle


def publish(source: Path, target: Path) -> Bundle:
    """Copy the bundle `source` to the folder `target`. Raises BundleError if one of them is not a bundle."""
    bundle = open_bundle(source)
    beside = {file: file.read_bytes() for file in target.glob("*.md")}
    metadata = bundle.metadata | {"name": as_name(target.resolve().name)}
    published = write_bundle(target, bundle.content[MODEL], bundle.content[TOKENIZER].decode(), metadata)
    for file, content in beside.items():
        file.write_bytes(content)
    return published


def command(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("folder", type=Path, help=(
        "the target: a bundle there is replaced, its *.md files stay"))
    return lambda arguments: print(publish(arguments.bundle, arguments.folder).path)
