"""A new lab file to begin with: `labctl lab new NN_slug`.

It runs as it stands, and its own proof fails until its check says something: whoever leaves it unfinished
reads so from `labctl lab prove`. It writes one file and asks no cluster anything.
"""

from __future__ import annotations

import re
from pathlib import Path

from labctl import files
from labctl.errors import Conflict, UsageError

_NAME = re.compile(r"(\d\d)_([a-z0-9]+(?:_[a-z0-9]+)*)(?:\.py)?")

_TEXT = '''"""{title}: what is to be understood, in one line.

Tell what will happen before it happens, in a few sentences: what is deployed, what is looked at,
and what would be seen if it were otherwise.
"""

from labctl.lab import Cluster, Lab, config_map, expect

lab = Lab()


@lab.step("Make what the lab is about")
def make(k8s: Cluster) -> None:
    note = config_map("note", text=f"hello {{k8s.nonce}}")
    k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=note)


@lab.check("What must be so", within=10)
def it_is_so(k8s: Cluster) -> None:
    note = k8s.core.read_namespaced_config_map(name="note", namespace=k8s.namespace)
    expect(False, seen=note.data, expected="a check that is written: replace False by what must be so")


@lab.sabotage("what breaks it", breaks=it_is_so)
def break_it(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_config_map(name="note", namespace=k8s.namespace)
'''


def write(folder: Path, word: str) -> Path:
    """Write the skeleton of lab ``word`` ("16_controller_manager") into ``folder``; returns the file.

    Raises `UsageError` for a word that is no lab's name, `Conflict` where a lab has this number already.
    """
    match = _NAME.fullmatch(word)
    if not match:
        raise UsageError(
            f"{word!r} is no name for a lab",
            why="a lab is called NN_slug: two digits, '_', then a-z, 0-9 and '_'",
            next_step="for example: `labctl lab new 16_controller_manager`",
        )
    number, slug = match.groups()
    folder.mkdir(parents=True, exist_ok=True)
    if there := sorted(one.name for one in folder.glob(f"{number}_*.py")):
        raise Conflict(
            f"lab {number} is there already", why=str(folder / there[0]), next_step="choose another number"
        )
    path = folder / f"{number}_{slug}.py"
    files.write(path, _TEXT.format(title=slug.replace("_", " ").capitalize()), mode=0o644)
    return path
