"""How the tests are shared out to processes; what they measured, printed at the end; JupyterLab and a browser for those who look."""
import json, multiprocessing, os, secrets, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get('FGNB_SHARED') or ROOT.parent/'shared') # vectors, data sets and the real tokenizer, where they are at hand
BROWSER = next((b for b in map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')) if b), None)
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update', '--no-first-run']
needs_browser = pytest.mark.skipif(BROWSER is None, reason='no chromium on this machine and it could not be installed (apt-get install chromium)')

READY = '''() => { const w = window.jupyterapp?.shell?.currentWidget;
    return w?.context?.isReady && w.sessionContext?.session?.kernel?.status === 'idle'; }'''
RUN_ALL = '''() => { window.finished = null;
    window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => window.finished = 'yes', e => window.finished = String(e)); }'''
READ_CELLS = '''() => { const out = []; for (const c of window.jupyterapp.shell.currentWidget.content.model.cells) out.push(c.toJSON()); return out; }'''

LONGEST = ['test_end_to_end', 'test_survive', 'test_launch', 'test_label_browser', 'test_browser', 'test_gates'] # they begin; what is short fills the end

# The processes of `-n` share the cores; and no allocator reserves address space for threads, so that a limit on it is a limit on memory.
for name, value in {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', 'HF_HUB_OFFLINE': '1', 'MALLOC_ARENA_MAX': '1'}.items(): os.environ.setdefault(name, value)

# A process that has imported everything: its forks begin within milliseconds. Of this project it holds what the trainings and sessions that are killed need. One list for all tests: the last one set counts.
FORK = multiprocessing.get_context('forkserver')
FORK.set_forkserver_preload(['torch', 'transformers', 'peft', 'accelerate', 'datasets', 'trl.trainer.sft_trainer', 'matplotlib.pyplot', 'pandas', 'ipywidgets', 'nbdev.test', 'fgnb.train', 'fgnb.session'])


def pytest_collection_modifyitems(items):
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda i: place.get(i.path.stem, len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "With `-n`, one process does all tests of a file, for their fixtures; the notebooks go one by one."
    from xdist.scheduler import LoadScopeScheduling
    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid): return nodeid if 'test_notebooks.py' in nodeid else nodeid.split('::')[0]
    config.option.loadscopereorder = False # by LONGEST, not by how many tests there are
    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter):
    told = [v for reports in terminalreporter.stats.values() for r in reports for k, v in getattr(r, 'user_properties', ()) if k == 'told']
    if told: terminalreporter.section('measured')
    for line in dict.fromkeys(told): terminalreporter.write_line(line)


@pytest.fixture
def told(record_property):
    "Say something that was measured; it is printed after the tests."
    return lambda text: record_property('told', text)


@pytest.fixture
def project(tmp_path) -> Path:
    "The project with copies of the notebooks, so that Run All changes nothing that git keeps."
    for name in ('settings.ini', 'data'): (tmp_path/name).symlink_to(ROOT/name)
    shutil.copytree(ROOT/'nbs', tmp_path/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    return tmp_path


@pytest.fixture
def lab(project):
    "JupyterLab on the loopback with a token; yields the address of its workflow folder."
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    token, log = secrets.token_hex(16), project/'lab.log'
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'JUPYTER_PREFER_ENV_PATH': '1',
           **{f'JUPYTER_{d}_DIR': str(project/'.jupyter'/d.lower()) for d in ('CONFIG', 'DATA', 'RUNTIME')}, **{f'JUPYTERLAB_{d}_DIR': str(project/'.jupyter') for d in ('WORKSPACES', 'SETTINGS')}}
    quiet = project/'.jupyter'/'@jupyterlab'/'apputils-extension'/'notification.jupyterlab-settings' # it would ask about news, over the notebook
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')
    options = ['--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1', f'--ServerApp.port={port}', '--ServerApp.port_retries=0', f'--ServerApp.root_dir={project}',
               f'--IdentityProvider.token={token}', '--LabApp.expose_app_in_browser=True', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.news_url=None']
    with log.open('w') as out:
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *options], cwd=project, env=env, stdout=out, stderr=out)
    try:
        for _ in range(360):
            assert server.poll() is None, log.read_text()[-3000:]
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api/status?token={token}', timeout=2); break
            except OSError: time.sleep(0.5)
        else: pytest.fail('JupyterLab did not answer within three minutes\n'+log.read_text()[-3000:])
        yield f'http://127.0.0.1:{port}/lab/tree/nbs/workflows/{{}}?token={token}'
    finally:
        server.terminate() # it shuts its kernels down
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()


@pytest.fixture
def page():
    "One tall page of a headless browser."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield b.new_page(viewport={'width': 1400, 'height': 1600})
        b.close()


def write_cell(project: Path, name: str, source: str) -> str:
    "A notebook of one cell among the workflow notebooks; its file name."
    nb = {'cells': [{'cell_type': 'code', 'id': name, 'metadata': {}, 'source': source, 'execution_count': None, 'outputs': []}],
          'metadata': {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}, 'nbformat': 4, 'nbformat_minor': 5}
    (project/'nbs'/'workflows'/f'{name}.ipynb').write_text(json.dumps(nb))
    return f'{name}.ipynb'


def run_cell(lab: str, page, project: Path, name: str, source: list[str]) -> None:
    "Open a notebook of one cell in JupyterLab and run it."
    page.goto(lab.format(write_cell(project, name, '\n'.join(source))))
    page.wait_for_function(READY, timeout=90_000)
    page.evaluate(RUN_ALL)


@pytest.fixture
def screens() -> Path:
    "Where screenshots are kept for whoever wants to look."
    folder = ROOT/'outputs'/'screens'
    folder.mkdir(parents=True, exist_ok=True)
    return folder

