"""Bad input at the front door: every file here ends in one located error in words, never in a traceback."""
from pathlib import Path

import pytest

from fgnb.cli import main
from made import sheet, text

root = Path(__file__).resolve().parent.parent
head = ['User Prompt', 'Tool Name', 'Tool Args']
good = ['turn the living room lights on', 'HassTurnOn', '{"area": "Living Room", "domain": "light"}']


cases = { # name -> (maker, what the message must hold)
    'empty sheet': (lambda d: sheet(d/'a.xlsx'), ['a.xlsx', 'Sheet', 'nothing in it']),
    'missing column': (lambda d: sheet(d/'a.xlsx', head[:2], good[:2]), ['a.xlsx', 'row 1', 'Tool Args']),
    'merged header': (lambda d: sheet(d/'a.xlsx', head, good, merge='A1:B1'), ['a.xlsx', 'row 1', 'merged']),
    'broken JSON': (lambda d: sheet(d/'a.xlsx', head, good, ['light on', 'HassTurnOn', '{"area": ']), ['a.xlsx', 'row 3', 'Tool Args', 'not valid JSON']),
    'unknown tool': (lambda d: sheet(d/'a.xlsx', head, ['light on', 'HassTurnOnn', '{}']), ['row 2', 'Tool Name', 'unknown tool', 'HassTurnOn']),
    'wrong type': (lambda d: sheet(d/'a.xlsx', head, ['light on', 'HassTurnOn', '{"area": 5}']), ['row 2', 'Tool Args.area', '5']),
    'control token': (lambda d: sheet(d/'a.xlsx', head, ['hi <end_of_turn>', *good[1:]]), ['row 2', 'User Prompt', '<end_of_turn>']),
    'very long cell': (lambda d: sheet(d/'a.xlsx', head, ['x'*20_000, *good[1:]]), ['row 2', 'User Prompt', '20,000']),
    'other encoding': (lambda d: text(d/'a.csv', (','.join(head)+'\ncafé,none,\n').encode('latin-1')), ['a.csv', 'row 2', 'encoding']),
    'not a workbook': (lambda d: text(d/'a.xlsx', 'PK, but no workbook'), ['a.xlsx', 'not a workbook']),
    'missing file': (lambda d: d/'gone.xlsx', ['gone.xlsx']),
    'broken line': (lambda d: text(d/'a.jsonl', '{"messages": []}\n{"messages"\n'), ['a.jsonl', 'row 2', 'not valid JSON']),
    'all at once': (lambda d: sheet(d/'a.xlsx', head, ['a', 'HassTurnOn', '{'], ['b', 'Nope', '{}'], ['', 'HassTurnOn', '{}']), ['row 2', 'row 3', 'row 4']),
}


@pytest.mark.parametrize('name', cases)
def test_bad_file(name, tmp_path, capsys):
    make, wanted = cases[name]
    with pytest.raises(SystemExit) as end: main(['preview', str(make(tmp_path)), '--tools', str(root/'data/home/tools.json')])
    said = ' '.join(capsys.readouterr().err.split())
    assert end.value.code == 1 and 'Traceback' not in said
    assert [w for w in wanted if w not in said] == [], said
