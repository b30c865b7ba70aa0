"""Every library notebook runs, two at a time, each in its own process."""
import os, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import SECONDS

root = Path(__file__).resolve().parent.parent
notebooks = sorted((root/'nbs').glob('*.ipynb'))


def run(path: Path) -> subprocess.CompletedProcess:
    "`nbdev_test` on one notebook, at most ten minutes."
    env = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', 'HF_HUB_OFFLINE': '1'}
    start = time.time()
    code = f'from nbdev.test import nbdev_test; nbdev_test(path={str(path)!r}, n_workers=0)'
    done = subprocess.run([sys.executable, '-c', code], cwd=root, env=env, capture_output=True, text=True, timeout=600)
    SECONDS[path.name] = time.time()-start
    return done


@pytest.fixture(scope='module')
def running():
    "All notebooks, started; a test waits for its own."
    with ThreadPoolExecutor(2) as pool:
        yield {path: pool.submit(run, path) for path in notebooks}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.name)
def test_notebook(path, running):
    done = running[path].result()
    assert done.returncode == 0 and 'Success' in done.stdout, f'{path.name}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}'
