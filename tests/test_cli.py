"""The command line from outside: a fresh process, its exit code, what it prints, what it leaves."""
import json, os, resource, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

def fgnb(*args, cwd=ROOT, timeout=120):
    "Run one command; give the finished process."
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]), 'PYTHONIOENCODING': 'utf-8'}
    return subprocess.run([sys.executable, '-c', 'from fgnb.cli import main; main()', *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True,
                          encoding='utf-8', timeout=timeout)

def refused(process, *words):
    "An error for people: code 1, on stderr, no traceback, holding `words`."
    assert process.returncode == 1 and process.stdout == '', process
    assert 'Traceback' not in process.stderr
    for word in words: assert word in process.stderr, process.stderr

@pytest.fixture
def project(tmp_path):
    "An empty project with one experiment, its sheet and tools, and the least that counts as a model folder."
    (tmp_path/'settings.ini').write_text('lib_name = fgnb\n')
    (tmp_path/'nbs/experiments').mkdir(parents=True); (tmp_path/'nbs/workflows').mkdir(); (tmp_path/'data/base').mkdir(parents=True)
    (tmp_path/'data/base/config.json').write_text('{}')
    (tmp_path/'data/rows.csv').write_text('User Prompt,Tool Name,Tool Args\n跳一下,jump,{}\n', encoding='utf-8')
    tools = [{'type': 'function', 'function': {'name': 'jump', 'description': 'Jump', 'parameters': {}}}]
    (tmp_path/'data/tools.json').write_text(json.dumps(tools))
    (tmp_path/'nbs/experiments/demo.yaml').write_text('data: {train: [data/rows.csv], tools: data/tools.json}\n')
    return tmp_path

def notebook(path: Path, *cells):
    "A notebook whose first cell is tagged `parameters`."
    cells = [{'cell_type': 'code', 'id': f'c{i}', 'execution_count': None, 'outputs': [], 'source': c, 'metadata': {'tags': ['parameters']} if i == 0 else {}} for i, c in enumerate(cells)]
    path.write_text(json.dumps({'cells': cells, 'nbformat': 4, 'nbformat_minor': 5, 'metadata': {'kernelspec': {'name': 'python3', 'language': 'python', 'display_name': 'x'}}}), encoding='utf-8')

def test_help_is_quick_and_light():
    "Under half a second of processor time (which other work on the machine does not change), and no heavy module is imported."
    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert fgnb('--help').returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime+after.ru_stime-before.ru_utime-before.ru_stime
    assert min(seconds() for _ in range(3)) < 0.5
    code = "import sys\nfrom fgnb.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint([m for m in ('torch', 'transformers', 'pandas', 'numpy', 'papermill', 'matplotlib') if m in sys.modules])"
    out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(ROOT)})
    assert out.stdout.splitlines()[-1] == '[]', out

def test_help_names_every_command():
    text = fgnb('--help').stdout
    for command in ('run', 'predict', 'preview', 'evaluate', 'report'): assert f'  {command} ' in text
    assert 'KEY=VALUE' in fgnb('run', '--help').stdout

def test_version():
    import fgnb as package
    assert fgnb('--version').stdout.strip() == f'fgnb {package.__version__}'

def test_bad_overrides_are_told_at_once(project):
    refused(fgnb('run', 'demo', 'training.lerning_rate=1', 'training.epochs=-3', 'seed=x', 'nonsense', cwd=project),
            'nearest known: training.learning_rate', 'training.epochs', 'out of bounds', "'seed': wrong type", 'an override is key=value')
    assert not (project/'outputs').exists()

def test_unknown_experiment(project): refused(fgnb('run', 'dmeo', cwd=project), 'no such experiment', 'seen: dmeo', 'expected: demo')

def test_unknown_run(project):
    for args in (['predict', 'nope', '跳'], ['evaluate', 'nope', 'data/rows.csv'], ['report', 'nope']): refused(fgnb(*args, cwd=project), 'no such run', 'seen: nope')

def test_missing_files_are_told_before_a_run_is_made(project):
    refused(fgnb('run', 'demo', 'data.test=[gone.xlsx]', 'model.path=data/gone', cwd=project), "gone.xlsx, column 'data.test'", "data/gone, column 'model.path'")
    assert not (project/'outputs').exists()

def test_a_broken_sheet_is_told_by_row_and_column(project):
    (project/'data/bad.csv').write_text('User Prompt,Tool Name,Tool Args\n跳一下,jump,{oops\n跳两下,jmup,{}\n', encoding='utf-8')
    refused(fgnb('preview', 'data/bad.csv', cwd=project), 'bad.csv', 'row 2', 'row 3', 'Tool Args', 'jmup')

def test_a_failing_station_leaves_no_whole_run(project):
    "The first notebook fails: the error names it and its cell, the later ones do not run, and the run is refused from then on."
    for name in ('01_data_preview', '03_quick_finetune', '04_inference_test', '05_export'):
        notebook(project/f'nbs/workflows/{name}.ipynb', "run = ''\noverrides = []", "raise OSError('disk full')" if name.startswith('03') else f"open('{name}', 'w').close()")
    done = fgnb('run', 'demo', cwd=project)
    assert done.returncode == 1 and '03_quick_finetune.ipynb, cell In [' in done.stderr and 'OSError: disk full' in done.stderr and 'Traceback' not in done.stderr
    assert (project/'01_data_preview').exists() and not (project/'04_inference_test').exists()
    manifest = json.loads((project/'outputs/runs/demo/manifest.json').read_text())
    assert manifest['status'] == 'failed' and {k: v['status'] for k, v in manifest['stations'].items()} == {'01_data_preview': 'done', '03_quick_finetune': 'failed'}
    assert (project/'outputs/runs/demo/notebooks/03_quick_finetune.ipynb').exists()
    refused(fgnb('predict', 'demo', '跳', cwd=project), 'this run is not whole', 'seen: status failed')
    refused(fgnb('evaluate', 'demo', 'data/rows.csv', cwd=project), 'this run is not whole')

def test_a_notebook_that_lacks_a_parameter_is_not_run(project):
    notebook(project/'nbs/workflows/01_data_preview.ipynb', "runn = ''\noverrides = []", "open('ran', 'w').close()")
    done = fgnb('run', 'demo', cwd=project)
    assert done.returncode == 1 and 'unknown parameter' in done.stderr and 'nearest known: runn' in done.stderr and not (project/'ran').exists()

def test_resume_is_true_or_false(project):
    refused(fgnb('run', 'demo', 'resume=yes', cwd=project), 'resume is true or false', 'seen: resume=yes')

def test_misuse_is_code_2(): assert fgnb('run').returncode == 2 and fgnb('fly').returncode == 2

def test_traceback_on_request(project): assert 'Traceback' in fgnb('run', 'dmeo', '--traceback', cwd=project).stderr
