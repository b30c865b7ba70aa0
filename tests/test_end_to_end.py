"""The whole way with the smallest experiment, as a user types it: `fgnb run smoke`; and once more, killed and stopped on the way, to the same end."""
import json, os, re, subprocess, sys, time
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
needed = ['config.yaml', 'manifest.json', 'metrics.json', 'history.jsonl', 'preview.json', 'exports.json', 'report.html', 'model/config.json', 'gguf/Modelfile',
          'predictions/base.jsonl', 'predictions/tuned.jsonl', 'notebooks/01_data_preview.ipynb', 'notebooks/03_quick_finetune.ipynb',
          'notebooks/04_inference_test.ipynb', 'notebooks/05_export.ipynb', *(f'data/{s}.jsonl' for s in ('train', 'validation', 'test'))]
settings = ['training.max_steps=16', 'training.save_steps=2', 'logging.steps=1'] # long enough to be killed in


def start(project: Path, *args: str) -> subprocess.Popen:
    "The `fgnb` command at work in `project`, with no network."
    env = {**os.environ, 'PYTHONPATH': str(root), 'NO_COLOR': '1', 'COLUMNS': '200'}
    return subprocess.Popen([sys.executable, '-c', 'from fgnb.cli import main; main()', *args], cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def fgnb(project: Path, *args: str) -> tuple[int, str]:
    "Its exit code and what it printed."
    process = start(project, *args)
    printed = process.communicate(timeout=900)[0]
    return process.returncode, printed


def wait_for(what, process: subprocess.Popen) -> None:
    end = time.time()+400
    while not what():
        assert process.poll() is None and time.time() < end, process.stdout.read()[-3000:]
        time.sleep(0.02)


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    "The project with its own outputs, so that nobody's runs are touched."
    to = tmp_path_factory.mktemp('project')
    for name in ('settings.ini', 'data', 'nbs'): (to/name).symlink_to(root/name)
    return to


@pytest.fixture(scope='module')
def run(project) -> tuple[Path, str]:
    "The folder of a run, and what it printed."
    code, printed = fgnb(project, 'run', 'smoke', *settings)
    assert code == 0, printed[-3000:]
    return project/'outputs'/'runs'/'smoke', printed


def load(path: Path): return json.loads(path.read_text(encoding='utf-8'))
def lines(path: Path) -> list: return [json.loads(l) for l in path.read_text(encoding='utf-8').splitlines()]


def test_the_run_folder_is_whole(run):
    folder = run[0]
    assert [f for f in needed if not (folder/f).is_file()] == []
    assert load(folder/'manifest.json')['status'] == 'complete'
    assert list((folder/'gguf').glob('*.gguf')) and list((folder/'model').glob('*.safetensors'))


def test_scores_are_told(run):
    "Base and tuned on the same held-out rows, in the metrics, the report and the terminal."
    folder, printed = run
    m, test = load(folder/'metrics.json'), lines(folder/'data'/'test.jsonl')
    ids = [e['id'] for e in test]
    for side in ('base', 'tuned'):
        assert [p['id'] for p in lines(folder/'predictions'/f'{side}.jsonl')] == ids
        score = m[side]['exact_match']
        assert score['n'] == len(test) == m['rows']['test'] and 0 <= score['low'] <= score['value'] <= score['high'] <= 1
    html = (folder/'report.html').read_text(encoding='utf-8')
    for text in (f"{100*m['tuned']['exact_match']['value']:.1f}", 'start_function_call'): assert text in html, text
    assert not re.search(r'(src|href)="https?://', html), 'the report stands alone'
    assert 'report.html' in printed and 'exact_match' in printed


def test_no_test_row_trained(run):
    "Held-out commands are in no other split."
    said = {s: {e['messages'][-2]['content'] for e in lines(run[0]/'data'/f'{s}.jsonl')} for s in ('train', 'validation', 'test')}
    assert said['train'] and said['test'] and not said['test'] & (said['train'] | said['validation'])


def test_exports_answer_as_the_trained_model(run):
    rows = load(run[0]/'exports.json')
    assert any('f32' in r['artefact'] for r in rows)
    for r in rows:
        assert r['rows'] > 0 and any((folder/r['file']).exists() for folder in (run[0], run[0]/'gguf')), r
        if 'f32' in r['artefact']: assert r['same_as_transformers'] == 1, r


def test_ask_the_run(run, project):
    "`fgnb predict` answers with what the model said, `fgnb evaluate` scores the run on its own test sheet as the run did."
    row = next(e for e in lines(run[0]/'data'/'test.jsonl') if len(e['messages']) <= 3)
    code, printed = fgnb(project, 'predict', 'smoke', row['messages'][-2]['content'])
    assert code == 0 and printed.strip(), printed[-2000:]
    code, printed = fgnb(project, 'evaluate', 'smoke', str(run[0]/'data'/'test.jsonl'))
    assert code == 0 and 'exact_match' in printed, printed[-2000:]


def test_a_run_goes_on_until_it_is_whole(run, project):
    """The same settings under another name, the same command again and again: killed in training, asked to stop in training, killed in a later station, then through.
    Same data, same seed: the same losses, the same weights, the same replies, the same scores as of the run that nothing happened to."""
    straight, night = run[0], project/'outputs'/'runs'/'night'
    command = ['run', 'smoke', 'name=night', *settings, 'resume=true']
    manifest = lambda: load(night/'manifest.json') if (night/'manifest.json').exists() else {'stations': {}}
    states = lambda: {k: v['status'] for k, v in manifest()['stations'].items()}

    process = start(project, *command)
    wait_for(lambda: (night/'checkpoints'/'checkpoint-2').is_dir(), process)
    process.kill()
    first = process.communicate()[0]
    assert 'no run night to go on with' in first and states() == {'01_data_preview': 'done', '03_quick_finetune': 'running'}
    assert manifest()['status'] != 'complete' and not (night/'report.html').exists()
    code, printed = fgnb(project, 'predict', 'night', '打开客厅的灯')
    assert code != 0 and 'not whole' in printed and 'Traceback' not in printed, 'nobody may build on it'

    process = start(project, *command)
    wait_for(lambda: manifest().get('resumed') == 1 and len((night/'history.jsonl').read_text().splitlines()) > 8, process)
    process.terminate()
    second = process.communicate(timeout=120)[0]
    assert process.returncode == 75 and 'training goes on from checkpoint-' in second and 'asked to stop: checkpoint-' in second, second
    assert f'go on with: fgnb run smoke name=night {settings[0]}' in second and manifest()['status'] == states()['03_quick_finetune'] == 'preempted'

    process = start(project, *command)
    wait_for(lambda: states().get('04_inference_test') == 'running', process)
    process.kill()
    process.communicate()

    code, last = fgnb(project, *command)
    assert code == 0 and '03_quick_finetune: done before' in last and manifest()['status'] == 'complete' and manifest()['resumed'] == 3, last
    assert sorted(p.name for p in night.parent.iterdir()) == ['night', 'smoke']
    for f in ('data/train.jsonl', 'history.jsonl', 'model/model.safetensors', 'predictions/base.jsonl', 'predictions/tuned.jsonl'): assert (night/f).read_bytes() == (straight/f).read_bytes(), f
    a, b = load(straight/'metrics.json'), load(night/'metrics.json')
    assert all(a[k] == b[k] for k in ('rows', 'base', 'tuned'))
    code, again = fgnb(project, *command[:-1], 'training.learning_rate=1e-4', 'resume=true')
    assert 'training.learning_rate' in again and code == 1
