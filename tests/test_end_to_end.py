"""The whole way with the smallest experiment, as a user types it: `fgnb run smoke`, twice; then a run that is cut off."""
import json, os, re, subprocess, sys, time
from pathlib import Path

import pytest

from conftest import SECONDS

root = Path(__file__).resolve().parent.parent
needed = ['config.yaml', 'manifest.json', 'metrics.json', 'history.jsonl', 'preview.json', 'exports.json', 'report.html', 'model/config.json', 'gguf/Modelfile',
          'predictions/base.jsonl', 'predictions/tuned.jsonl', 'notebooks/01_data_preview.ipynb', 'notebooks/03_quick_finetune.ipynb',
          'notebooks/04_inference_test.ipynb', 'notebooks/05_export.ipynb', *(f'data/{s}.jsonl' for s in ('train', 'validation', 'test'))]


def command(*args: str) -> list[str]:
    return [sys.executable, '-c', 'from fgnb.cli import main; main()', *args]


def environment() -> dict:
    "No network, two threads."
    return {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '2', 'HF_HUB_OFFLINE': '1', 'NO_COLOR': '1', 'COLUMNS': '200'}


def fgnb(project: Path, *args: str) -> subprocess.CompletedProcess:
    "The `fgnb` command in `project`."
    start = time.time()
    done = subprocess.run(command(*args), cwd=project, env=environment(), capture_output=True, text=True, timeout=900)
    SECONDS[' '.join(['fgnb', *args])] = time.time()-start
    return done


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    "The project with its own outputs, so that nobody's runs are touched."
    to = tmp_path_factory.mktemp('project')
    for name in ('settings.ini', 'data', 'nbs'): (to/name).symlink_to(root/name)
    return to


@pytest.fixture(scope='module')
def twice(project) -> tuple[Path, Path, str]:
    "Folders of the first and the second run of `smoke`, and what the second one printed."
    for _ in range(2):
        done = fgnb(project, 'run', 'smoke')
        assert done.returncode == 0, done.stdout[-3000:]+done.stderr[-3000:]
    runs = project/'outputs'/'runs'
    return runs/'smoke.1', runs/'smoke', done.stdout


def load(path: Path): return json.loads(path.read_text(encoding='utf-8'))
def lines(path: Path) -> list: return [json.loads(l) for l in path.read_text(encoding='utf-8').splitlines()]


def test_the_run_folder_is_whole(twice):
    for run in twice[:2]:
        assert [f for f in needed if not (run/f).is_file()] == []
        assert load(run/'manifest.json')['status'] == 'complete'
        assert list((run/'gguf').glob('*.gguf')) and list((run/'model').glob('*.safetensors'))


def test_scores_are_told(twice):
    "Base and tuned on the same held-out rows, in the metrics, the report and the terminal."
    run, printed = twice[1], twice[2]
    m, test = load(run/'metrics.json'), lines(run/'data'/'test.jsonl')
    ids = [e['id'] for e in test]
    for side in ('base', 'tuned'):
        assert [p['id'] for p in lines(run/'predictions'/f'{side}.jsonl')] == ids
        score = m[side]['exact_match']
        assert score['n'] == len(test) == m['rows']['test'] and 0 <= score['low'] <= score['value'] <= score['high'] <= 1
    html = (run/'report.html').read_text(encoding='utf-8')
    for text in (f"{100*m['tuned']['exact_match']['value']:.1f}", 'start_function_call'): assert text in html, text
    assert not re.search(r'(src|href)="https?://', html), 'the report stands alone'
    assert 'report.html' in printed and 'exact_match' in printed


def test_no_test_row_trained(twice):
    "Held-out commands are in no other split."
    said = {s: {e['messages'][-2]['content'] for e in lines(twice[1]/'data'/f'{s}.jsonl')} for s in ('train', 'validation', 'test')}
    assert said['train'] and said['test'] and not said['test'] & (said['train'] | said['validation'])


def test_exports_answer_as_the_trained_model(twice):
    rows = load(twice[1]/'exports.json')
    assert any('f32' in r['artefact'] for r in rows)
    for r in rows:
        assert r['rows'] > 0 and any((folder/r['file']).exists() for folder in (twice[1], twice[1]/'gguf')), r
        if 'f32' in r['artefact']: assert r['same_as_transformers'] == 1, r


def test_the_same_twice(twice):
    "Same data, same seed: the same losses, the same replies, the same scores."
    a, b = twice[:2]
    losses = [[{k: r[k] for k in ('step', 'loss', 'eval_loss') if k in r} for r in lines(run/'history.jsonl')] for run in (a, b)]
    assert losses[0] == losses[1] and any('loss' in r for r in losses[0])
    for f in ('data/train.jsonl', 'predictions/base.jsonl', 'predictions/tuned.jsonl'): assert (a/f).read_bytes() == (b/f).read_bytes(), f
    ma, mb = load(a/'metrics.json'), load(b/'metrics.json')
    assert all(ma[k] == mb[k] for k in ('rows', 'base', 'tuned'))


def test_ask_the_run(twice, project):
    "`fgnb predict` answers with what the model said, `fgnb evaluate` scores the run on its own test sheet as the run did."
    row = next(e for e in lines(twice[1]/'data'/'test.jsonl') if len(e['messages']) <= 3)
    done = fgnb(project, 'predict', 'smoke', row['messages'][-2]['content'])
    assert done.returncode == 0 and done.stdout.strip(), done.stderr[-2000:]
    done = fgnb(project, 'evaluate', 'smoke', str(twice[1]/'data'/'test.jsonl'))
    assert done.returncode == 0 and 'exact_match' in done.stdout, done.stdout[-2000:]+done.stderr[-2000:]


def test_a_run_cut_off_is_not_whole(project):
    "Killed while it trains: the manifest does not say complete, there is no report, and nobody may build on it."
    run, watched = project/'outputs'/'runs'/'cut', time.time()+300
    worker = subprocess.Popen(command('run', 'smoke', 'name=cut'), cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while time.time() < watched and worker.poll() is None:
            stations = load(run/'manifest.json')['stations'] if (run/'manifest.json').exists() else {}
            if '03_quick_finetune' in stations: break
            time.sleep(0.1)
        assert worker.poll() is None, 'it ended before it could be killed'
    finally:
        worker.kill(); worker.wait()
    assert load(run/'manifest.json')['status'] != 'complete' and not (run/'report.html').exists()
    done = fgnb(project, 'predict', 'cut', '打开客厅的灯')
    assert done.returncode != 0 and 'not whole' in done.stdout+done.stderr and 'Traceback' not in done.stdout+done.stderr
