"""What must hold of the tree itself: notebooks clean, library exported, README in sync, light imports, nothing private, nothing too big."""
import ast, configparser, csv, json, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

root = Path(__file__).resolve().parent.parent
library = sorted(p for p in (root/'nbs').glob('*.ipynb') if p.name != 'index.ipynb')
workflows = sorted((root/'nbs'/'workflows').glob('*.ipynb'))
notebooks = sorted((root/'nbs').rglob('*.ipynb'))
modules = sorted((root/'fgnb').glob('*.py'))
name_of = lambda path: str(path.relative_to(root)) if isinstance(path, Path) else None
each = lambda paths: pytest.mark.parametrize('path', paths, ids=name_of)

settings = configparser.ConfigParser(delimiters=['='])
settings.read(root/'settings.ini', encoding='utf-8')
cfg = settings['DEFAULT']
core = {canonicalize_name(Requirement(r).name) for r in cfg['requirements'].split()}
extras = {canonicalize_name(Requirement(r).name) for k in cfg if k.endswith('_requirements') for r in cfg[k].split()} - core


def python(*args, cwd=root, **env) -> subprocess.CompletedProcess:
    "This Python on `args`, with this tree first on its path."
    env = {**os.environ, 'PYTHONPATH': str(cwd), **env}
    return subprocess.run([sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def tracked() -> list[Path]:
    "Every file of the tree that git keeps, or would keep."
    out = subprocess.run(['git', '-C', str(root), 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], capture_output=True, text=True, check=True)
    return [p for f in out.stdout.split('\0') if f and (p := root/f).is_file()]


def cells(path: Path, kind: str = '') -> list[dict]:
    "The notebook's cells, of one kind if asked, with `source` as one string."
    all_ = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [c | {'source': ''.join(c['source'])} for c in all_ if c['cell_type'] == (kind or c['cell_type'])]


def exports(cell: dict) -> bool:
    "Does this cell go into the module?"
    return cell['cell_type'] == 'code' and re.match(r'#\|\s*export', cell['source']) is not None


# --- the gates, in order ---------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def copy(tmp_path_factory) -> Path:
    "A copy of what nbdev works on, so that no gate writes into the tree."
    to = tmp_path_factory.mktemp('tree')
    for f in ('settings.ini', 'setup.py'): shutil.copy(root/f, to/f)
    for d in ('nbs', 'fgnb'): shutil.copytree(root/d, to/d, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    return to


def differing(copy: Path, files: list[Path]) -> list[str]:
    "Files of the tree that the copy now has otherwise."
    return [name_of(f) for f in files if (copy/f.relative_to(root)).read_bytes() != f.read_bytes()]


def test_nbdev_clean_changes_nothing(copy):
    done = python('-c', 'from nbdev.clean import nbdev_clean; nbdev_clean()', cwd=copy)
    assert done.returncode == 0, done.stderr
    assert differing(copy, notebooks) == [], 'run nbdev_clean'


@each(notebooks)
def test_notebook_state(path):
    "No saved widget state, no papermill metadata, no stored error, no path of this machine in an output."
    nb = json.loads(path.read_text(encoding='utf-8'))
    assert set(nb['metadata']) <= {'kernelspec'}, 'notebook metadata must hold the kernelspec only'
    for c in nb['cells']:
        assert set(c['metadata']) <= {'tags'}, c['source']
        for out in c.get('outputs', []):
            assert out['output_type'] != 'error', c['source']
            assert out.get('name') != 'stderr', ('a warning is stored', c['source'], out)
            assert 'application/vnd.jupyter.widget-view+json' not in out.get('data', {}), c['source']
            assert not re.search(r'/tm[p]/|/roo[t]/|/home/\w+/', json.dumps(out)), ('a path of this machine is stored', c['source'])


def test_nbdev_export_changes_nothing(copy):
    done = python('-c', 'from nbdev.export import nb_export; from nbdev import nbdev_export; nbdev_export()', cwd=copy)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (copy/'fgnb').glob('*.py')} == {p.name for p in modules}
    assert differing(copy, modules) == [], 'run nbdev_export'


def test_readme_in_sync():
    done = python('.ci/readme.py', '--check')
    assert done.returncode == 0, done.stderr


def test_readme_sample_reads(tmp_path):
    "The sheet and the tools that the README shows are read as they stand there."
    from fgnb.data import read_examples
    text = (root/'README.md').read_text(encoding='utf-8')
    rows = [[c.strip() for c in line.strip('|').split('|')] for line in re.search(r'\| User Prompt.*?\n\n', text, re.S)[0].split('\n') if line]
    with (tmp_path/'a.csv').open('w', encoding='utf-8') as f: csv.writer(f).writerows(rows[:1]+rows[2:])
    answers = [e['messages'][-1] for e in read_examples(tmp_path/'a.csv', json.loads(re.search('```json\n(.*?)```', text, re.S)[1]))]
    assert [bool(a.get('tool_calls')) for a in answers] == [True, True, False]


import_all = """
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in blocked: raise ModuleNotFoundError(f'{name} is blocked', name=name.split('.')[0])
modules, blocked = (set(a.split()) for a in sys.argv[1:])
sys.meta_path.insert(0, Block())
for m in sorted(modules):
    try: importlib.import_module(f'fgnb.{m}')
    except ImportError as e: print(f'{m}: {e}')
"""


def test_modules_import_without_extras():
    "Every module imports with the core requirements alone; heavy packages load when they are used."
    blocked = {r.replace('-', '_') for r in extras} | {'sky', 'matplotlib'}
    done = python('-c', import_all, ' '.join(m.stem for m in modules if m.stem not in ('__init__', '_modidx')), ' '.join(blocked))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == []


def test_import_is_light():
    code = 'import time; t = time.perf_counter(); import fgnb, sys; assert "torch" not in sys.modules; print(time.perf_counter()-t)'
    runs = [python('-c', code) for _ in range(3)]
    assert all(r.returncode == 0 for r in runs), runs[0].stderr
    assert min(float(r.stdout) for r in runs) < 0.5, 'seconds of import fgnb'


# --- shape of the notebooks ------------------------------------------------------------------------------------------

@each(library)
def test_library_notebook(path):
    "Title and subtitle first, prose between exports, `nbdev_export()` last, at most 70 cells and 300 exported lines."
    all_ = cells(path)
    assert re.match(r'# [^\n]+\n+> \S', all_[0]['source']), 'the first cell is a title and a > subtitle'
    assert 'nbdev_export()' in all_[-1]['source'] and all_[-1]['source'].startswith('#| hide')
    assert len(all_) <= 70, 'split the notebook'
    assert sum(len(c['source'].splitlines())-1 for c in all_ if exports(c)) <= 300, 'split the module'
    row = ''.join('x' if exports(c) else 'p' if c['cell_type'] == 'markdown' else '.' for c in all_)
    assert 'xxx' not in row, 'more than two export cells in a row'
    assert any('assert' in c['source'] for c in all_ if not exports(c)), 'no lesson cell asserts anything'


@each(workflows)
def test_workflow_notebook(path):
    "One `parameters` cell, no export, no function, no branch: decisions belong in the library."
    code = cells(path, 'code')
    assert cells(path)[0]['cell_type'] == 'markdown'
    assert sum('parameters' in c['metadata'].get('tags', []) for c in code) == 1
    assert not any(exports(c) or 'default_exp' in c['source'] for c in code)
    for c in code:
        found = [type(n).__name__ for n in ast.walk(ast.parse(c['source'])) if isinstance(n, (ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.If, ast.IfExp, ast.Try))]
        assert not found, (found, c['source'])


def test_functions_are_short():
    "At most 25 lines a function, 180 characters a line."
    long = [f'{m.name}:{n.name} {n.end_lineno-n.lineno+1} lines' for m in modules for n in ast.walk(ast.parse(m.read_text(encoding='utf-8')))
            if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) and n.end_lineno-n.lineno >= 25]
    wide = [f'{m.name}:{i}' for m in modules if m.stem != '_modidx' for i, line in enumerate(m.read_text(encoding='utf-8').splitlines(), 1) if len(line) > 180 and not line.startswith('# %%')]
    assert long+wide == []


def test_imports_point_up():
    "A module uses only modules of notebooks with its own number or a lower one."
    number = {m[1]: int(p.name[:2]) for p in library for c in cells(p, 'code') if (m := re.search(r'#\|\s*default_exp (\w+)', c['source']))}
    assert set(number) == {m.stem for m in modules} - {'__init__', '_modidx'}, 'modules and notebooks'
    wrong = [f'{m.stem} imports {n.module}' for m in modules if m.stem in number for n in ast.walk(ast.parse(m.read_text(encoding='utf-8')))
             if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module and number[n.module] > number[m.stem]]
    assert wrong == []


# --- the tree ----------------------------------------------------------------------------------------------------------

# Written so that the patterns do not find themselves.
private = re.compile(r'/wor[k]/|/roo[t]/|/op[t]/|file:/[/]/|\.pyen[v]|\b(this|previous|last|next|earlier) sessio[n]\b|\bsubagen[t]|\bissue[s]? #?\d|'
                     r'\bclaud[e]\b|anthropi[c]|co-authored-b[y]|\bby an? agen[t]\b', re.I)


def test_nothing_private():
    "No path of a machine, no word on how the tree was made."
    found = []
    for p in tracked():
        try: text = p.read_text(encoding='utf-8')
        except UnicodeDecodeError: continue
        if p.name == 'tokenizer.json': continue # word pieces
        found += [f'{name_of(p)}: …{text[max(0, m.start()-30):m.end()+30]!r}' for m in private.finditer(text)]
    assert found == []


def test_sizes():
    "No file over 20 MB, all together under 60 MB."
    size = {name_of(p): p.stat().st_size/1e6 for p in tracked()}
    assert {n: s for n, s in size.items() if s > 20} == {}
    assert sum(size.values()) < 60


def test_data_folders_say_where_they_come_from():
    "Every folder of data has a README that names its licence, and data/README.md lists it."
    index = (root/'data'/'README.md').read_text(encoding='utf-8')
    for folder in sorted(p for p in (root/'data').iterdir() if p.is_dir()):
        assert re.search('licen[cs]e', (folder/'README.md').read_text(encoding='utf-8'), re.I), folder.name
        assert f'({folder.name}/' in index, f'data/README.md does not list {folder.name}'


def test_requirements_are_pinned():
    "constraints.txt holds one exact version of everything `make` asks for, inside the bounds of settings.ini."
    pins = dict(line.split('==') for line in (root/'constraints.txt').read_text(encoding='utf-8').split())
    pins = {canonicalize_name(k): v for k, v in pins.items()}
    wanted = [Requirement(r) for k in ('', 'train_', 'export_', 'label_', 'dev_') for r in cfg[k+'requirements'].split()]
    assert [str(r) for r in wanted if not r.specifier.contains(pins.get(canonicalize_name(r.name), '0'), prereleases=True)] == []
