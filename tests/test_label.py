"""`02_label` without anybody looking on: it labels nothing by itself, and what it was given it hands over."""
import shutil
from pathlib import Path

import papermill
import pytest

from fgnb.data import command, gold_calls, read_examples
from fgnb.runs import notebook_path, own_kernel
from fgnb.session import Session

root = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    for name in ('settings.ini', 'data', 'nbs'): (tmp_path/name).symlink_to(root/name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(project: Path, **parameters) -> list[str]:
    "What the notebook printed."
    with own_kernel(HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1'):
        nb = papermill.execute_notebook(str(notebook_path('02_label', project)), str(project/'out.ipynb'), parameters, kernel_name='python3', language='python', cwd=str(project), progress_bar=False)
    return [o['text'] for c in nb.cells if c.cell_type == 'code' for o in c.outputs if o.get('name') == 'stdout']


def test_nothing_is_made_up_and_answers_are_handed_over(project):
    told = run(project)
    session = Session.open(project/'outputs/sessions/penguin.session')
    assert session.progress().done == 0 and session.progress().total == 30 and not (project/'outputs/sessions/penguin.xlsx').exists()
    assert all(i.suggestions for i in session.items()) and any('30 of 30' in t for t in told)
    run(project, answers=['data/penguin/unlabelled_answers.jsonl'])
    wanted = {command(e): gold_calls(e) for e in read_examples(root/'data/penguin/unlabelled_answers.jsonl', session.tools)}
    rows = read_examples(project/'outputs/sessions/penguin.xlsx', session.tools)
    assert {command(e): gold_calls(e) for e in rows} == wanted and session.progress().done == len(wanted) == 28
    open_ones = {i.command for i in session.items() if i.status == 'open'}
    assert open_ones == {i.command for i in session.items()} - set(wanted) and len(open_ones) == 2
