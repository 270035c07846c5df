"""Run as a program: does one operation on copies of an index and kills itself at one numbered step after the other.

    python crasher.py OPERATION FOLDER    FOLDER/base is the index; makes FOLDER/0, FOLDER/1, … and says how many

Each copy is killed (SIGKILL) before its step of that number; the last one lives to the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexed import OPERATIONS, opened, small_sizes


def killed(operation: str, folder: Path, number: int) -> bool:
    """Whether a child that does the operation in a copy was killed before its step of that number."""
    copy = folder / str(number)
    shutil.copytree(folder / "base", copy)
    child = os.fork()
    if child == 0:
        steps = 0

        def at(_: str) -> None:
            nonlocal steps
            if steps == number:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1

        with opened(copy, at=at) as index:
            OPERATIONS[operation](index)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


if __name__ == "__main__":
    small_sizes()
    points = 0
    while killed(sys.argv[1], Path(sys.argv[2]), points):
        points += 1
    print(points)
