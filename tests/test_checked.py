"""Checked data: near-duplicates, disagreeing answers, marked copies, splits that neither leak nor move, coverage, toolsets."""
import json, shutil
from collections import Counter
from pathlib import Path

import openpyxl, pytest
from hypothesis import given, settings, strategies as st
from rapidfuzz import fuzz

from fgnb.annotate import annotate
from fgnb.check import check
from fgnb.config import Config, DataConfig
from fgnb.core import Fault, FaultError, write_json
from fgnb.coverage import coverage, gaps
from fgnb.data import check_pairs, read_examples
from fgnb.distractors import add_distractors, needed_tools
from fgnb.kinds import derived_kind, mix_table, parse_mix
from fgnb.mix import load_splits
from fgnb.schema import check_arguments, load_tools, tool_names
from fgnb.similar import NEAR, answer_key, contradictions, near_duplicates, near_pairs, plain_words, said
from fgnb.split import SIDES, contamination, conversation_key, group_key, share, split_examples, straddling

root = Path(__file__).resolve().parent.parent
TOOLS = load_tools([{'name': 'turn_on', 'description': 'Turns on a light', 'parameters': {'type': 'object', 'required': ['area'], 'properties': {
    'area': {'type': 'string'}, 'mode': {'type': 'string', 'enum': ['warm', 'cold']}}}},
    *({'name': f'tool_{i}', 'description': f'Does number {i}'} for i in range(8))])
HEAD = ['User Prompt', 'Tool Name', 'Tool Args', 'Split']


def call(name, **args) -> dict: return {'type': 'function', 'function': {'name': name, 'arguments': args}}


def row(n: int, text: str, *calls: dict, split='', group='', reply='好的', before=(), **more) -> dict:
    answer = {'role': 'assistant', 'tool_calls': list(calls)} if calls else {'role': 'assistant', 'content': reply}
    messages = [*({'role': r, 'content': t} for r, t in before), {'role': 'user', 'content': text}, answer]
    group = group or ' '.join(' '.join(m['content'] for m in messages if m['role'] == 'user').split())
    return {'id': str(n), 'tools': TOOLS, 'messages': messages, 'split': split, 'group': group, 'kind': '', 'lang': '', 'source': {'file': 'a.xlsx', 'sheet': 's', 'row': n}} | more


# --- answers that disagree -------------------------------------------------------------------------------------------

on = lambda area, name='turn_on': call(name, area=area)
pairs = { # name -> (rows, code and message at the later row, or nothing)
    'punctuation and case': ([row(2, 'Lamp on!', on('a')), row(3, 'lamp on', on('b'))], [('contradiction', 3, 'another answer to the same command as in row 2')]),
    'full width and spacing': ([row(2, '减少 5 分钟', on('a')), row(3, '减少５分钟。', on('b'))], [('contradiction', 3, 'another answer to the same command as in row 2')]),
    'politeness': ([row(2, '打开灯', on('a')), row(3, '请帮我打开灯吧', on('b'))], [('near-contradiction', 3, 'another answer to almost the same command as in row 2')]),
    'call and no call': ([row(2, 'Lamp on', on('a')), row(3, 'lamp, on')], [('contradiction', 3, 'another answer to the same command as in row 2')]),
    'another sheet': ([row(2, 'Lamp on', on('a')), row(2, 'lamp on.', on('b'), source={'file': 'a.xlsx', 'sheet': 't', 'row': 2})],
                      [('contradiction', 2, "another answer to the same command as in sheet 's', row 2")]),
    'masked value': ([row(2, 'please switch on every light in the kitchen', on('kitchen')), row(3, 'please switch on every light in the bedroom', on('bedroom'))], []),
    'same answer': ([row(2, 'Lamp on!', on('a')), row(3, 'lamp on', on('a'))], []),
    'a question mark': ([row(2, '跳舞！', on('a')), row(3, '跳舞？')], []),
    'a number': ([row(2, 'to 20.5', on('a')), row(3, 'to 205', on('b'))], []),
    'other tools declared': ([row(2, 'Lamp on!', on('a')), row(3, 'lamp on', tools=TOOLS[1:])], []),
    'the same to the letter is told elsewhere': ([row(2, 'lamp on', on('a')), row(3, 'lamp on', on('b'))], []),
}


@pytest.mark.parametrize('name', pairs)
def test_contradictions(name):
    rows, wanted = pairs[name]
    sure, maybe = contradictions(rows, check_pairs(rows))
    assert [(f.code, f.row, f.message) for f in sure+maybe] == wanted
    assert all('one answer; there: ' in f.expected and f.seen for f in sure+maybe)


def test_a_swap_that_always_changes_the_call_is_no_contradiction():
    rows = [row(i, f'please switch the {x} {way} in every single room of the whole house', call('tool_1' if way == 'on' else 'tool_2')) for i, (x, way) in enumerate(
        [(x, way) for x in ('light', 'radio', 'heater') for way in ('on', 'off')], 2)]
    assert contradictions(rows) == ([], [])
    sure, maybe = contradictions(rows[:2]) # once alone, it cannot be told from an error
    assert not sure and [f.row for f in maybe] == [3]


# --- near-duplicates -------------------------------------------------------------------------------------------------

texts = st.lists(st.text('ab 开灯5', max_size=24), max_size=30)


@settings(max_examples=60, deadline=None)
@given(texts, st.sampled_from([0.82, 0.9, 0.95, 1.0]), st.integers(0, 2))
def test_near_pairs_are_those_of_comparing_all(found, threshold, n):
    blocks = [len(t) % (n+1) for t in found]
    every = [(i, j) for i in range(len(found)) for j in range(i+1, len(found)) if blocks[i] == blocks[j] and fuzz.ratio(found[i], found[j]) >= threshold*100]
    assert [(i, j) for i, j, _ in near_pairs(found, threshold, blocks)] == every


def test_normalising_keeps_what_carries_a_value():
    rows = [row(i, t, on('a')) for i, t in enumerate(['set it to 20.5', 'set it to 20,5', 'Set it to 205!', 'set it to -20', 'set it to 20%', 'set it to 20'])]
    assert len({plain_words(said(e)) for e in rows}) == 6


# --- the split -------------------------------------------------------------------------------------------------------

WORDS = ['打开客厅里的大灯和小灯', '打开客厅里的大灯和小灯吧', '打开客厅里的大灯与小灯', '打开客厅里的大灯小灯', '关掉卧室的电视机', '关掉卧室的电视', '关掉卧室里的电视', 'dim the lamp in the attic', 'dim the lamp in attic',
         'dim the lamps in the attic', 'dim both lamps in the attic', 'good morning', 'Good morning!']
answers = st.sampled_from([(), (call('tool_1'),), (on('客厅'),), (on('attic'),)])
one = st.tuples(st.sampled_from(WORDS), answers, st.sampled_from(['', '', '', 'g1', 'g2']), st.sampled_from(['', '', '', '', 'train', 'test', 'validation']))
free = st.tuples(st.sampled_from(WORDS), answers, st.sampled_from(['', '', '', 'g1', 'g2']), st.just(''))
built = lambda drawn, start=1: [row(start+i, text, *calls, group=group, split=split) for i, (text, calls, group, split) in enumerate(drawn)]
side_of = lambda parts: {e['id']: e['split'] for side in parts.values() for e in side}


def ties(rows: list[dict], i: int, j: int) -> bool:
    "Whether two rows belong on one side, by the definition and not by the index."
    a, b = rows[i], rows[j]
    return group_key(a) == group_key(b) or answer_key(a) == answer_key(b) and fuzz.ratio(plain_words(said(a)), plain_words(said(b))) >= NEAR*100


@settings(max_examples=80, deadline=None)
@given(st.lists(one, max_size=14), st.lists(free, max_size=8), st.integers(0, 9))
def test_appended_rows_move_none(old, new, seed):
    before, after = (side_of(split_examples(rows, 0.3, 0.3, seed)) for rows in (built(old), built(old)+built(new, 100)))
    assert {i: after[i] for i in before} == before


@settings(max_examples=80, deadline=None)
@given(st.lists(one, max_size=14), st.integers(0, 9))
def test_marks_are_honoured_and_what_straddles_is_told(drawn, seed):
    rows = built(drawn)
    parts = split_examples(rows, 0.3, 0.3, seed)
    side = side_of(parts)
    assert len(side) == len(rows) and all(side[e['id']] == e['split'] for e in rows if e['split'])
    rank = {s: i for i, s in enumerate(SIDES)}
    wanted = {e['source']['row'] for j, e in enumerate(rows) if any(rank[side[rows[i]['id']]] < rank[side[e['id']]] and ties(rows, i, j) for i in range(len(rows)) if i != j)}
    assert {f.row for f in straddling(parts)} == wanted


@settings(max_examples=80, deadline=None)
@given(st.lists(free, max_size=14), st.integers(0, 9))
def test_a_row_on_two_sides_is_only_ever_a_bridge(drawn, seed):
    "Each unmarked row follows the rows before it to which it is tied, if these agree; if not, it is kept out of the test."
    rows = built(drawn)
    side = side_of(split_examples(rows, 0.3, 0.3, seed))
    group, first = {}, {} # the first row of a group, and of equal plain words with one answer, stands for the others
    for j, e in enumerate(rows):
        same = first.setdefault((plain_words(said(e)), answer_key(e)), j)
        alike = [same] if same < j else [i for i in set(first.values()) if i < j and ties([rows[i] | {'group': 'a'}, e | {'group': 'b'}], 0, 1)]
        earlier = {side[rows[i]['id']] for i in (*alike, group.setdefault(group_key(e), j)) if i < j}
        if len(earlier) == 1: assert side[e['id']] in earlier
        elif earlier: assert side[e['id']] == next(s for s in SIDES if s in earlier)
        else: assert side[e['id']] == ('test' if share(group_key(e), seed) < 0.3 else 'validation' if share(group_key(e), seed) < 0.6 else 'train')


def test_groups():
    closed, free_ = row(2, 'lamp on', call('tool_1')), row(3, 'lamp on in a', on('a'))
    assert group_key(closed) == 'said:lamp on' and group_key(free_) == 'call:[["turn_on", {"area": "a"}]]' and group_key(closed | {'group': 'mine'}) == 'mine'
    talk = [('user', 'hello'), ('assistant', 'yes?')]
    one_, other = row(4, '跳舞', before=talk), row(5, '飞', before=[*talk, ('user', '跳舞'), ('assistant', '好')])
    assert conversation_key(one_) == conversation_key(other) != '' and conversation_key(closed) == ''
    assert conversation_key(closed | {'extra': {'Conversation ID': 7}}) == 'named:7'
    for seed in range(20): assert len({s for s in side_of(split_examples([one_, other], 0.3, 0.3, seed)).values()}) == 1


def test_contamination_counts():
    learned = [row(2, '打开客厅里的大灯', on('客厅')), row(3, 'timer in the attic', on('attic'))]
    test = [row(4, '打开客厅里的大灯吧', on('客厅')), row(5, 'timer in the hall', on('hall')), row(6, 'something else', on('attic')), row(7, 'no call at all')]
    assert contamination(learned, test) == {'command': 0, 'near': 0.25, 'group': 0.5, 'call': round(2/3, 4), 'form': round(1/3, 4)}
    assert contamination(learned, []) == dict.fromkeys(('command', 'near', 'group', 'call', 'form'), 0)


def test_shipped_sheets_do_not_leak_and_keep_their_sides():
    for name, files in (('home', ['commands.xlsx', 'commands_test.xlsx']), ('penguin', ['commands.xlsx', 'multi_turn.jsonl']), ('simple', ['commands.xlsx'])):
        rows = read_examples([root/'data'/name/f for f in files], root/'data'/name/'tools.json')
        parts = split_examples(rows)
        held = {e['group'] for e in rows if e['split'] == 'test'}
        assert {e['id'] for e in parts['test']} == {e['id'] for e in rows if e['split'] == 'test' or e['group'] in held}, name
        assert contamination(parts['train']+parts['validation'], parts['test'])['near'] == 0 and not straddling(parts), name


# --- toolsets --------------------------------------------------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text('abc', max_size=6), st.lists(st.integers(0, 7), max_size=3)), max_size=12), st.integers(0, 4), st.integers(0, 9), st.booleans())
def test_toolsets(drawn, k, seed, alike):
    rows = [row(i, text, *(call(f'tool_{n}') for n in calls)) for i, (text, calls) in enumerate(drawn)]
    dealt = add_distractors(rows, k, seed, toolsets=9, alike=alike)
    assert [add_distractors([e], k, seed, 9, alike)[0] for e in rows] == dealt # no row depends on another
    assert all(needed_tools(e) <= set(tool_names(e['tools'])) and len(e['tools']) >= k+1 for e in dealt)
    needs = {needed_tools(e) for e in rows if len(needed_tools(e)) > 1}
    assert len({json.dumps(e['tools']) for e in dealt}) <= 9+len(needs)


def test_too_few_toolsets_are_a_fault():
    config = Config(data=DataConfig(train=[str(root/'data/home/commands.xlsx')], tools=str(root/'data/home/tools.json'), distractors=4, toolsets=3))
    with pytest.raises(FaultError, match='data.toolsets.*3 sets of 5.*at least 7 for 33 tools'): load_splits(config, quiet=True)
    config.data.toolsets = 8
    assert len({json.dumps(e['tools']) for rows in load_splits(config, quiet=True).values() for e in rows}) == 8


# --- coverage and mix ------------------------------------------------------------------------------------------------

def test_gaps_are_valid_rows_in_order():
    found = gaps([row(2, '打开客厅的灯', on('客厅'))], least=1)
    assert list(zip(found['why'], found['tool'], found['parameter'], found['value']))[:3] == [('no row calls this tool', f'tool_{i}', '', '') for i in range(3)]
    assert [(p, v, a) for p, v, a in zip(found['parameter'], found['value'], found['Tool Args']) if v in ('warm', 'cold')] == [
        ('mode', 'warm', '{"area": "客厅", "mode": "warm"}'), ('mode', 'cold', '{"area": "客厅", "mode": "cold"}')]
    by_name = {t['function']['name']: t for t in TOOLS}
    assert not any(check_arguments(by_name[t], json.loads(a)) for t, a in zip(found['tool'], found['Tool Args']))


def test_coverage_counts_a_row_once_a_cell():
    table = coverage([row(2, 'x', on('a'), on('b')), row(3, 'y', call('turn_on', area='c', mode='warm'))])
    count = table.groupby(['tool', 'parameter', 'value'])['rows'].sum()
    assert count['turn_on', 'area', 'text'] == 2 and count['turn_on', 'mode', 'warm'] == 1 and count['turn_on', 'mode', 'cold'] == 0 and count['turn_on', 'mode', '(left out)'] == 1


@pytest.mark.parametrize('wanted,example', [
    ('ask_back', row(2, '开灯', reply='哪个房间？')), ('no_call', row(2, '你好')), ('multi_turn', row(2, '好', on('a'), before=[('user', '灯'), ('assistant', '开？')])), ('negation', row(2, '不是跑，是飞', on('a'))),
    ('combined', row(2, '开灯再开电视', on('a'), call('tool_1'))), ('mood', row(2, '我好伤心', call('tool_1', emotion='sad'))), ('basic', row(2, '开灯', on('a')))])
def test_kinds(wanted, example): assert derived_kind(example) == wanted


def test_mix_names_what_is_missing():
    table = mix_table([row(i, '开灯', on('a')) for i in range(8)] + [row(9, '你好')], parse_mix('basic 50, negation 25%, no_call=25')).set_index('kind')
    assert table['missing'].to_dict() == {'basic': 0, 'negation': 3, 'no_call': 2} | dict.fromkeys(('mood', 'combined', 'multi_turn', 'ask_back'), 0)
    with pytest.raises(FaultError, match="data.mix.*not a kind"): parse_mix('basic 1, mood')


# --- the marked copy -------------------------------------------------------------------------------------------------

@pytest.fixture
def sheet(tmp_path) -> Path:
    book = openpyxl.Workbook(); page = book.active; page.title = "Lin's 指令"
    for line in (['用户指令', 'Tool Name', 'Tool Args', 'Split', 'Sum'], ['打开客厅的灯', 'turn_on', '{"area": "客厅"}', 'train', 1], ['打开客厅的灯。', 'turn_on', '{"area": "厨房"}', None, 2], ['=A1', 'turnon', '{"area": 5}', None, 3],
                 ['开灯', 'turn_on', '{"area": "a", "mode": "worm"}', 'holdout', '=SUM(E2:E4)']): page.append(line)
    page['B2'].font = openpyxl.styles.Font(bold=True); page['G1'] = ' '; page['E5'].number_format = '0.00'
    notes = book.create_sheet('#notes'); notes['A1'] = 'kept'; notes.merge_cells('A1:B1')
    book.save(tmp_path/'a.xlsx'); write_json(tmp_path/'tools.json', TOOLS)
    return tmp_path/'a.xlsx'


def test_marked_copy(sheet):
    before = sheet.read_bytes()
    report = check(sheet)
    assert report.exit_code == 1 and {f.code for f in report.faults} >= {'unknown-tool', 'arguments', 'split', 'formula'}
    written, = report.annotate()
    assert written == sheet.with_name('a.checked.xlsx') and sheet.read_bytes() == before
    marked, source = openpyxl.load_workbook(written), openpyxl.load_workbook(sheet)
    page = marked["Lin's 指令"]
    assert marked.sheetnames == ['#faults', "Lin's 指令", '#notes'] and marked.active.title == '#faults'
    assert [s.title for s in marked.worksheets if s.sheet_view.tabSelected] == ['#faults']
    for old in source.worksheets:
        assert [[c.value for c in line] for line in old.iter_rows()] == [[c.value for c in line] for line in marked[old.title].iter_rows()]
        assert old.merged_cells.ranges == marked[old.title].merged_cells.ranges
    assert page['B2'].font.b and page['E5'].number_format == '0.00' and page['E5'].value == '=SUM(E2:E4)'
    for f in report.faults+report.warnings: # each has its cell, by the user's own header
        column = {'用户指令': 'A', 'User Prompt': 'A', 'Tool Name': 'B', 'Tool Args': 'C', 'Split': 'D', 'Sum': 'E'}[f.column.split('.')[0]]
        cell = page[f'{column}{f.row}']
        assert f.message in cell.comment.text and cell.fill.fgColor.rgb in ('FFF4B183', 'FFBDD7EE'), str(f)
    listed = marked['#faults']
    assert listed.max_row-2 == len(report.faults+report.warnings)
    assert [listed.cell(r, 1).hyperlink.location for r in range(3, listed.max_row+1)] == [f"'Lin''s 指令'!{listed.cell(r, 1).value.split('!')[1]}" for r in range(3, listed.max_row+1)]
    assert not any(c.data_type == 'f' for line in listed.iter_rows() for c in line) # what was seen is text, whatever it begins with


def test_the_copy_reads_as_the_original(sheet):
    "The list is not taken for data, and the coloured cells still hold what they held."
    first = check(sheet)
    shutil.copy(first.annotate()[0], sheet.with_name('b.xlsx'))
    again = check(sheet.with_name('b.xlsx'))
    assert [(f.row, f.column, f.code) for f in again.faults] == [(f.row, f.column, f.code) for f in first.faults]


def test_list_for_text_files(tmp_path):
    (tmp_path/'a.csv').write_text('User Prompt,Tool Name,Tool Args\n打开灯,turnon,{}\n"=1+1, go",turn_on,"{""area"": ""a""}"\n打开灯！,turn_on,{}\n', encoding='utf-8')
    report = check(tmp_path/'a.csv', TOOLS)
    written, = report.annotate()
    lines = written.read_bytes().decode('utf-8-sig').splitlines()
    assert written.name == 'a.faults.csv' and len(lines) == 1+len(report.faults+report.warnings) and all(not l.startswith(('=', '+', '-', '@')) for l in lines)
    with pytest.raises(ValueError, match='would replace the file itself'): annotate(tmp_path/'a.csv', [], out=tmp_path/'a.csv')
    assert "'=1+1" in annotate(tmp_path/'a.csv', [Fault('x', seen='=1+1')], out=tmp_path/'b.csv').read_text(encoding='utf-8-sig')


def test_report_is_safe_and_counts(sheet):
    report = check(sheet)
    html = report._repr_html_()
    assert '<script' not in html and "Lin's" in html.replace('&#x27;', "'") and str(report).count('\n- ') == len(report.faults+report.warnings)
    assert Counter(report.table()['severity'])['fault'] == len(report.faults)
    ok = check(root/'data/simple/commands.xlsx')
    assert ok.exit_code == 0 and ok.rows == 40 and [len(ok.splits[s]) for s in SIDES] == [20, 0, 20]
