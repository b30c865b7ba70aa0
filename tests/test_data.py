"""Data: every bad file with its whole message, every good one unchanged, and the promises of the shipped sheets."""
import contextlib, json, os
from collections import Counter
from functools import partial
from pathlib import Path

import openpyxl, pytest
from hypothesis import given, settings, strategies as st

from fgnb.calls import CONTROL
from fgnb.config import load_config
from fgnb.core import FaultError, write_jsonl
from fgnb.data import call_key, collect, command, gold_calls, plain_text, read_examples, round_trip
from fgnb.mix import load_splits
from fgnb.schema import load_tools
from fgnb.sheets import read_tables
from fgnb.split import contamination, split_examples
from made import sheet

root = Path(__file__).resolve().parent.parent
HEAD, GOOD = ['User Prompt', 'Tool Name', 'Tool Args'], ['打开客厅的灯', 'turn_on', '{"area": "客厅"}']
TOOLS = load_tools([{'name': 'turn_on', 'description': 'Turns on a light', 'parameters': {'type': 'object', 'required': ['area'], 'properties': {
    'area': {'type': 'string'}, 'percent': {'type': 'integer'}, 'mode': {'type': 'string', 'enum': ['warm', 'cold']}}}}])


workbook = partial(sheet, title='指令')


def said(path: Path) -> list[str]:
    "The faults of one file as a user reads them, without the folder."
    with pytest.raises(FaultError) as caught: read_examples(path, TOOLS)
    return [str(f).replace(f'{path.parent}/', '') for f in caught.value.faults]


SHEET = "a.xlsx, sheet '指令'"
books = { # name -> (rows, merged range, messages)
    'empty sheet': ([], '', [f'{SHEET}: nothing in it (expected: a header row and at least one row below it)']),
    'header only': ([HEAD], '', [f'{SHEET}, row 1: no rows under the header (expected: at least one row)']),
    'missing column': ([['User Prompt', 'Tool', 'Notes'], GOOD], '', [
        f'{SHEET}, row 1: missing columns Tool Name, Tool Args (seen: User Prompt, Tool, Notes) (expected: User Prompt, Tool Name, Tool Args)']),
    'title above the header': ([['Commands of May'], HEAD, GOOD], '', [
        f'{SHEET}, row 1: missing columns User Prompt, Tool Name, Tool Args (seen: Commands of May)'
        ' (expected: User Prompt, Tool Name, Tool Args; row 2 looks like the header, delete what stands above it)']),
    'merged header': ([HEAD+['Notes'], GOOD], 'C1:D1', [f'{SHEET}, row 1: merged cells in the header (seen: C1:D1) (expected: one header a column: unmerge the cells)']),
    'merged rows': ([HEAD, GOOD, [None, 'turn_on', '{"area": "卧室"}']], 'A2:A3', [
        f'{SHEET}, row 2: merged cells (seen: A2:A3) (expected: a value in every row: unmerge the cells)', f"{SHEET}, row 3, column 'User Prompt': empty cell (expected: a command)"]),
    'misspelt column': ([HEAD+['Spilt'], GOOD+['test']], '', [f"{SHEET}, row 1, column 'Spilt': unknown column, very like a known one (seen: Spilt) (expected: Split, or a name less like it)"]),
    'broken JSON': ([HEAD, ['开灯', 'turn_on', '{"area": "客厅",}']], '', [
        f"{SHEET}, row 2, column 'Tool Args': not valid JSON: Expecting property name enclosed in double quotes at character 15; no comma before a closing brace"
        ' (seen: {"area": "客厅",}) (expected: a JSON object such as {"area": "客厅"})']),
    'repeated key': ([HEAD, ['开灯', 'turn_on', '{"area": "a", "area": "b"}']], '', [
        f"{SHEET}, row 2, column 'Tool Args': key 'area' occurs twice (seen: {{\"area\": \"a\", \"area\": \"b\"}}) (expected: a JSON object such as {{\"area\": \"客厅\"}})"]),
    'unknown tool': ([HEAD, ['开灯', 'turnon', '{}']], '', [f"{SHEET}, row 2, column 'Tool Name': unknown tool (seen: turnon) (expected: turn_on (nearest))"]),
    'wrong type': ([HEAD, ['开灯', 'turn_on', '{"area": "客厅", "percent": "20"}']], '', [
        f"{SHEET}, row 2, column 'Tool Args.percent': wrong type (seen: \"20\", string) (expected: integer)"]),
    'enum, unknown and missing argument': ([HEAD, ['开灯', 'turn_on', '{"mode": "worm", "aera": "客厅"}']], '', [
        f"{SHEET}, row 2, column 'Tool Args.area': required argument is missing (expected: area)", f"{SHEET}, row 2, column 'Tool Args.aera': unknown argument (seen: aera) (expected: area (nearest))",
        f"{SHEET}, row 2, column 'Tool Args.mode': not one of the allowed values (seen: \"worm\") (expected: warm (nearest))"]),
    'control token': ([HEAD, ['<start_of_turn>开灯', 'turn_on', '{"area": "<escape>"}']], '', [
        f"{SHEET}, row 2, column 'User Prompt': control token <start_of_turn> in the text (seen: <start_of_turn>) (expected: text without control tokens)",
        f"{SHEET}, row 2, column 'Tool Args': control token <escape> in the text (seen: <escape>) (expected: text without control tokens)"]),
    '20,000 characters': ([HEAD, ['x'*20_000, *GOOD[1:]]], '', [f"{SHEET}, row 2, column 'User Prompt': 20,000 characters in one cell (seen: {'x'*39}…) (expected: at most 10,000)"]),
    "Excel's limit": ([HEAD, ['x'*32_767, *GOOD[1:]]], '', [
        f"{SHEET}, row 2, column 'User Prompt': 32,767 characters; Excel cuts a cell at 32,767, so its end is probably lost (seen: {'x'*39}…) (expected: at most 10,000)"]),
    'number': ([HEAD, [7, *GOOD[1:]]], '', [f"{SHEET}, row 2, column 'User Prompt': the cell holds a number, not text (seen: 7.0) (expected: text: format the cell as Text and type it again)"]),
    'formula': ([HEAD, ['=A9', *GOOD[1:]]], '', [
        f"{SHEET}, row 2, column 'User Prompt': a formula without a stored value (seen: =A9) (expected: the value itself, or the workbook saved once by Excel)"]),
    'empty cells': ([HEAD, [None, None, None, None], ['开灯', None, '{}'], ['开灯', 'turn_on']], '', [
        f"{SHEET}, row 3, column 'Tool Name': empty cell (expected: a tool, or none for a row that wants no call)", f"{SHEET}, row 4, column 'Tool Args': empty cell (expected: {{}} for a call without arguments)"]),
    'duplicate': ([HEAD, GOOD, GOOD], '', [f'{SHEET}, row 3: the same row as in row 2 (seen: 打开客厅的灯) (expected: one of the two)']),
    'contradiction': ([HEAD, GOOD, ['打开客厅的灯 ', 'turn_on', '{"area": "卧室"}']], '', [
        f'{SHEET}, row 3: another answer to the same command as in row 2 (seen: 打开客厅的灯  → turn_on{{"area": "卧室"}}) (expected: one answer; there: turn_on{{"area": "客厅"}})']),
    'split': ([HEAD+['Split'], GOOD+['holdout']], '', [f"{SHEET}, row 2, column 'Split': unknown split (seen: holdout) (expected: train, validation, test or an empty cell)"]),
    'no call without an answer': ([HEAD, ['你好', '无', None]], '', [f"{SHEET}, row 2, column 'Reply': empty cell (expected: the answer in words, as this row wants no call)"]),
}


@pytest.mark.parametrize('name', books)
def test_bad_workbook(name, tmp_path):
    rows, merge, messages = books[name]
    assert said(workbook(tmp_path/'a.xlsx', *rows, merge=merge)) == messages


ENCODING = '(expected: UTF-8 (Excel: "CSV UTF-8") or GB18030)'
texts = { # name -> (bytes, message)
    'a.csv': ('User Prompt,Tool Name,Tool Args\n打開客廳的燈,turn_on,"{""area"": ""客廳""}"\n'.encode('big5'), f'a.csv, row 2: the text is in no encoding that is read here (seen: byte 0xa5) {ENCODING}'),
    'b.csv': ('User Prompt,Tool Name,Tool Args\nprépare,turn_on,"{""area"": ""Café""}"\n'.encode('latin-1'), f'b.csv, row 2: the text is in no encoding that is read here (seen: byte 0xe9) {ENCODING}'),
    'c.csv': (b'User Prompt,Tool Name,Tool Args\non,turn_on,{"area": "a", "percent": 1}\n', """c.csv, row 2: 4 cells under 3 headers (seen: on,turn_on,{"area": "a", "percent": 1}) (expected: quotes around a cell that holds ',')"""),
    'd.jsonl': (b'{"user_content": "on"\n', """d.jsonl, row 1: not valid JSON: Expecting ',' delimiter at character 22 (seen: {"user_content": "on") (expected: one JSON object a line)"""),
    'e.xlsx': (b'no workbook', 'e.xlsx: not a workbook: Cannot detect file format (seen: 11 bytes) (expected: an Excel or OpenDocument file)'),
    'f.csv': (b'', 'f.csv: the file is empty (seen: 0 bytes) (expected: at least one row)'),
    'g.txt': (b'x', 'g.txt: not a kind of file that is read here (seen: .txt) (expected: .xlsx .xlsm .xls .ods .csv .tsv .jsonl .ndjson .json .parquet)'),
    '~$h.xlsx': (b'x', "~$h.xlsx: this is Excel's lock file, not the workbook (expected: h.xlsx)"),
}


@pytest.mark.parametrize('name', texts)
def test_bad_text_file(name, tmp_path):
    (tmp_path/name).write_bytes(texts[name][0])
    assert said(tmp_path/name) == [texts[name][1]]


def test_missing_and_folder(tmp_path):
    (tmp_path/'folder').mkdir()
    assert said(tmp_path/'gone.xlsx') == ['gone.xlsx: no such file (expected: a file that exists)']
    assert said(tmp_path/'folder') == ['folder: a folder, not a file (expected: one of the files in it)']


@contextlib.contextmanager
def nobody():
    "An ordinary user for a moment: root may read everything."
    if os.geteuid(): yield; return
    os.seteuid(65534)
    try: yield
    finally: os.seteuid(0)


def test_locked_file(tmp_path):
    path = workbook(tmp_path/'a.xlsx', HEAD, GOOD)
    path.chmod(0)
    with nobody(): faults = read_tables(path)[1]
    assert [str(f).replace(f'{tmp_path}/', '') for f in faults] == ['a.xlsx: the file is locked or may not be read (expected: a file that is closed in other programs and that you may read)']


def test_all_at_once(tmp_path):
    "Two files, two sheets: one error lists everything, and what is good is not called bad."
    path = workbook(tmp_path/'a.xlsx', HEAD, GOOD, ['关灯', 'turn_off', '{'], ['暗一点', 'turn_on', '{}'])
    book = openpyxl.load_workbook(path)
    for row in ([*HEAD, 'Split'], ['再开一次', 'turn_on', '{"area": "厨房"}', 'later']): book.create_sheet('May').append(row) if 'May' not in book.sheetnames else book['May'].append(row)
    book.save(path)
    examples, faults = collect([path, tmp_path/'gone.csv'], TOOLS)
    assert [command(e) for e in examples] == ['打开客厅的灯']
    assert [(f.sheet, f.row, f.column, f.code) for f in faults] == [('指令', 3, 'Tool Args', 'json'), ('指令', 3, 'Tool Name', 'unknown-tool'), ('指令', 4, 'Tool Args.area', 'arguments'),
                                                                   ('May', 2, 'Split', 'split'), ('', None, '', 'missing')]


# --- what is good comes through unchanged ------------------------------------------------------------------------------

@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'gb18030', 'utf-16'])
@pytest.mark.parametrize('delimiter', [',', ';', '\t'])
def test_encodings(encoding, delimiter, tmp_path):
    line = delimiter.join(['打开客厅的灯', 'turn_on', '"{""area"": ""客厅"", ""percent"": 5}"'])
    (tmp_path/'a.csv').write_bytes((delimiter.join(['用户指令', '工具名称', '工具参数'])+'\r\n'+line+'\r\n').encode(encoding))
    [example] = read_examples(tmp_path/'a.csv', TOOLS)
    assert command(example) == '打开客厅的灯' and gold_calls(example)[0].arguments == {'area': '客厅', 'percent': 5}


printable = st.text(st.characters(blacklist_categories=('Cs', 'Cc')), min_size=1, max_size=30).filter(lambda t: t.strip() and '_x' not in t and not CONTROL.search(t))
values = st.recursive(st.none() | st.booleans() | st.integers(-10**9, 10**9) | st.floats(allow_nan=False, allow_infinity=False) | printable,
                      lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text('abcdef', min_size=1, max_size=4), v, max_size=3), max_leaves=8)
ANY = load_tools([{'name': 'note', 'description': '', 'parameters': {'type': 'object', 'properties': {}, 'additionalProperties': True}}])


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(printable, st.dictionaries(st.text('abcdef', min_size=1, max_size=4), values, max_size=4)), min_size=1, max_size=4, unique_by=lambda r: plain_text(r[0])))
def test_any_value_survives(rows, tmp_path_factory):
    "Commands and arguments of any kind through a workbook, JSON lines and tables: the same values in the same types."
    folder = tmp_path_factory.mktemp('any')
    path = workbook(folder/'a.xlsx', HEAD, *[[f'c {text}', 'note', json.dumps(args, ensure_ascii=False)] for text, args in rows]) # 'c ': openpyxl takes a leading = for a formula
    examples = read_examples(path, ANY)
    exact = lambda args: json.dumps(args, ensure_ascii=False)
    assert [(command(e), exact(gold_calls(e)[0].arguments)) for e in examples] == [(f'c {text}', exact(args)) for text, args in rows]
    write_jsonl(folder/'a.jsonl', examples)
    assert read_examples(folder/'a.jsonl') == examples
    assert set(round_trip(examples).values()) == {len(examples)}


# --- the shipped sheets --------------------------------------------------------------------------------------------------

def test_home_keeps_its_promises():
    train, test = (read_examples(root/f'data/home/{name}.xlsx', root/'data/home/tools.json') for name in ('commands', 'commands_test'))
    told = (root/'data/home/README.md').read_text(encoding='utf-8')
    assert f'| `commands.xlsx` | {len(train)} |' in told and f'| `commands_test.xlsx` | {len(test)} |' in told and 180 <= len(test) <= 220
    assert {e['split'] for e in train} == {''} and {e['split'] for e in test} == {'test'}
    assert {k: n for k, n in contamination(train, test).items() if k != 'form'} == {'command': 0, 'near': 0, 'call': 0, 'group': 0}
    letters = lambda e: ''.join(c for c in command(e).casefold() if c.isalnum())
    assert not {letters(e) for e in train} & {letters(e) for e in test} # not even with other case or punctuation
    assert {c.name for e in test for c in gold_calls(e)} <= {c.name for e in train for c in gold_calls(e)}
    assert len({call_key(e) for e in train}) == len({e['group'] for e in train}) # a group is a call


def test_simple_keeps_its_halves():
    examples = read_examples(root/'data/simple/commands.xlsx', root/'data/simple/tools.json')
    assert Counter(e['split'] for e in examples) == {'train': 20, 'test': 20}
    splits = load_splits(load_config(overrides=[f'data.train=[{root}/data/simple/commands.xlsx]', f'data.tools={root}/data/simple/tools.json']), quiet=True)
    assert [len(splits[s]) for s in ('train', 'validation', 'test')] == [20, 0, 20]


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=30), extra=st.lists(st.text(min_size=1, max_size=5), max_size=30), seed=st.integers(0, 99))
def test_adding_rows_moves_none(groups, extra, seed):
    said = lambda text: [{'role': 'user', 'content': text}, {'role': 'assistant', 'content': 'ok'}]
    rows = [{'group': g, 'split': '', 'n': i, 'messages': said(f'{g} {i}'), 'tools': []} for i, g in enumerate(groups+extra)]
    side = lambda rows: {e['n']: e['split'] for part in split_examples(rows, 0.2, 0.2, seed).values() for e in part}
    before, after = side(rows[:len(groups)]), side(rows)
    assert before.items() <= after.items() and len(after) == len(rows)
