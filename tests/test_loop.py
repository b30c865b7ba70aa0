"""Labels into a better model, the whole way: a run, a session, a new run, and what became of every held-out row."""
import json
from pathlib import Path

import pytest

from fgnb.ambiguity import ambiguity
from fgnb.core import FaultError, read_jsonl, write_jsonl, write_text
from fgnb.data import call_key, command, gold_calls
from fgnb.infer import Caller
from fgnb.launch import finetune
from fgnb.loop import retrain
from fgnb.mix import load_splits
from fgnb.queueing import batch, fill
from fgnb.runs import open_or_create
from fgnb.schema import load_tools
from fgnb.session import Session
from fgnb.train import run_rows

root = Path(__file__).resolve().parent.parent
LEFT_OUT = 10 # training rows of the sheet that the first run does not have


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    "The project with its own outputs."
    to = tmp_path_factory.mktemp('project')
    for name in ('settings.ini', 'data', 'nbs'): (to/name).symlink_to(root/name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(to)
        patch.setenv('HF_HUB_OFFLINE', '1')
        yield to


@pytest.fixture(scope='module')
def run(project):
    "A run on the sheet `simple` without its last training rows."
    rows = load_splits_of('data/simple/commands.xlsx')
    write_jsonl('part.jsonl', rows['train'][:-LEFT_OUT]+rows['test'][:8])
    write_text('part.yaml', json.dumps({'name': 'part', 'data': {'train': ['part.jsonl'], 'tools': 'data/simple/tools.json', 'validation': 0}, 'lora': {'enabled': False}, 'infer': {'max_new_tokens': 32},
        'training': {'max_steps': 4, 'batch_size': 4, 'learning_rate': 1e-3, 'eval_each_epoch': False, 'keep': 'last', 'engine': 'trl'}}))
    run = open_or_create('', 'part.yaml')
    rows = run_rows(run)
    finetune(run.config, rows['train'], [], run.path, quiet=True)
    return run


def load_splits_of(sheet: str) -> dict:
    from fgnb.config import load_config
    return load_splits(load_config(None, [f'data.train=[{sheet}]', 'data.tools=data/simple/tools.json', 'data.validation=0']), quiet=True)


@pytest.fixture(scope='module')
def done(run, project):
    "What came of labelling the rest, a held-out command and a command that is there already among them."
    rows, gold = run_rows(run), load_splits_of('data/simple/commands.xlsx')
    rest = gold['train'][-LEFT_OUT:]
    session = Session.create('simple.session', load_tools('data/simple/tools.json'), who='ann')
    filled = fill(session, [command(e) for e in [*rest, rest[0], rows['test'][0], rows['train'][0]]], Caller.load(run), rows['train'], most=6, quiet=True)
    answers = {command(e): gold_calls(e) for e in [*rest, *rows['train']]} | {command(rows['test'][0]): gold_calls(rows['test'][1])} # the label of the test command is another than the row's
    for item in session.items(): session.label(item.id, answers[item.command])
    return filled, session, retrain(session, run, quiet=True)


def test_the_queue_comes_with_replies(done):
    filled, session, _ = done
    assert filled.asked == 6 and filled.added == LEFT_OUT+2 and filled.read.repeated == 1
    assert [i.id for i in session.items()] == list(filled.table['id'])
    assert sum(bool(i.suggestions) for i in session.items()) <= 6 and all(0 <= s.confidence <= 1 for i in session.items() for s in i.suggestions if s.confidence is not None)


def test_the_test_rows_stay_the_same(run, done):
    new = done[2].run
    assert new.name == 'part-labels' and (new/'data'/'test.jsonl').read_bytes() == (run/'data'/'test.jsonl').read_bytes()
    old, rows = run_rows(run), run_rows(new)
    held = {command(e) for e in rows['test']}
    assert len(rows['train']) == len(old['train'])+LEFT_OUT and not held & {command(e) for e in rows['train']+rows['validation']}
    assert len({e['id'] for side in rows.values() for e in side}) == sum(map(len, rows.values()))


def test_what_was_left_out_is_told(done):
    labels = done[2].labels
    assert [f.code for f in labels.held_out] == ['held-out'] and [f.code for f in labels.known] == ['known'] and labels.held_out[0].row
    assert 'left out' in str(done[2]) and 'commands of test rows' in done[2].sentence()


def test_the_report_is_over_the_same_rows(run, done):
    new, report = done[2].run, done[2].report
    assert report.names == (run.name, new.name) and list(report.rows['id']) == [e['id'] for e in run_rows(run)['test']]
    for r in (run, new): assert [p['id'] for p in read_jsonl(r/'predictions'/'tuned.jsonl')] == list(report.rows['id'])
    assert f'Of {len(report.rows)} rows {new.name} gained' in report.sentence() and new.metrics['flips'] == report.counts | {'p': report.p, 'against': run.name}
    assert new.manifest['stations']['03_quick_finetune']['status'] == 'done' and (new/'model'/'config.json').is_file()


def test_the_configuration_gives_the_same_rows_again(done):
    new = done[2].run
    again, rows = load_splits(new.config, quiet=True), run_rows(new)
    assert {s: [(command(e), call_key(e)) for e in again[s]] for s in again} == {s: [(command(e), call_key(e)) for e in r] for s, r in rows.items()}
    assert open_or_create(new.name).path == new.path # and it is a run like any other


def test_contradictions_are_refused_with_their_places(run, done, project):
    rows = run_rows(run)
    session = Session.create('odd.session', load_tools('data/simple/tools.json'), [command(rows['train'][0]), command(rows['train'][1])], who='ann')
    one, two = session.items()
    other = next(gold_calls(e) for e in rows['train'] if call_key(e) != call_key(rows['train'][0]))
    session.label(one.id, other)
    before = sorted(p.name for p in (project/'outputs'/'runs').iterdir())
    with pytest.raises(FaultError) as failed: retrain(session, run, quiet=True)
    assert [f.code for f in failed.value.faults] == ['contradiction'] and failed.value.faults[0].file.endswith('odd.session') and 'commands.xlsx' in failed.value.faults[0].message
    assert sorted(p.name for p in (project/'outputs'/'runs').iterdir()) == before


def test_a_batch_does_not_see_answers(run):
    "The same commands with other answers in other columns give the same batch: only commands, replies and training rows count."
    rows = run_rows(run)
    texts = [command(e) for e in rows['test']]
    said = Caller.load(run).nbest(texts, 2)
    table = ambiguity(texts, {'tuned': said}, rows['train'])
    assert table['score'].between(0, 1).all() and list(batch(table, 4)['command']) == list(batch(table.sample(frac=1, random_state=1), 4)['command'])
