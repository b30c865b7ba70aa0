"""Every library notebook runs, each in a process of its own that begins with the heavy imports done."""
import os, sys
from pathlib import Path

import pytest

from conftest import FORK

root = Path(__file__).resolve().parent.parent
notebooks = sorted((root/'nbs').glob('*.ipynb'))


def run(path: Path, log: Path) -> None:
    "`nbdev_test` on one notebook, what it prints to `log`."
    with log.open('w') as f:
        for fd in (1, 2): os.dup2(f.fileno(), fd)
    os.chdir(root)
    sys.path.insert(0, str(root))
    from nbdev.test import nbdev_test
    nbdev_test(path=str(path), n_workers=0)
    sys.stdout.flush()


@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.name)
def test_notebook(path, tmp_path):
    log = tmp_path/'log'
    process = FORK.Process(target=run, args=(path, log))
    process.start()
    process.join(600)
    if process.is_alive(): process.kill(); pytest.fail(f'{path.name}: not done within ten minutes\n{log.read_text()[-4000:]}')
    told = log.read_text()
    assert process.exitcode == 0 and 'Success' in told, f'{path.name}\n{told[-6000:]}'
