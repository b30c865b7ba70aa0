"""Judging from outside: the Berkeley leaderboard's published rules case by case, metrics against an independent count, replies from a server over HTTP, and a whole exam of a file."""
import json, random, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fgnb.answers import compare_sources, exam_record, examine, replies_of, rows_of
from fgnb.leaderboard import bfcl_judgement, bfcl_table
from fgnb.core import FaultError, read_jsonl, write_json, write_jsonl
from fgnb.evaluate import score
from fgnb.findings import advice_html, failures_html, slices_html
from fgnb.flips import flip_report, over_seeds, write_queue
from fgnb.format import Call, render, render_call
from fgnb.judge import CLASSES, Tolerance, verdict
from fgnb.slices import OUTCOMES, argument_table, confusion, slices, tool_table

# --- the leaderboard's rules ------------------------------------------------------------------------------------------

SIMPLE, PARALLEL, MULTIPLE = 'simple_function_checker', 'parallel_function_checker_no_order', 'multiple_function_checker'


def function(name='f', required=(), **types) -> dict:
    "A function in the leaderboard's shape; a type `array of string` names its members'."
    def schema(t): return {'type': t.split(' of ')[0]} | ({'items': {'type': t.split(' of ')[1]}} if ' of ' in t else {})
    return {'name': name, 'description': '', 'parameters': {'type': 'dict', 'properties': {k: schema(t) for k, t in types.items()}, 'required': list(required)}}


one = {'string': 'string', 'integer': 'integer', 'float': 'float', 'boolean': 'boolean', 'any': 'any', 'dict': 'dict', 'strings': 'array of string',
       'floats': 'array of float', 'integers': 'array of integer', 'dicts': 'array of dict', 'tuple': 'tuple of integer'}
cases = [ # type of the argument, value in the reply, possible values, error type (empty: valid)
    ('string', 'Paris', ['Paris'], ''), ('string', 'paris', ['Paris'], ''), ('string', 'New-York, N.Y.', ['new york ny'], ''), ('string', 'a_b*c^d/e', ['A B C D E'], ''),
    ('string', "it's", ['it"s'], ''), ('string', 'a+b', ['ab'], 'value_error:string'), ('string', 'Rome', ['Paris', 'Lyon'], 'value_error:string'),
    ('string', 'Lyon', ['Paris', 'Lyon'], ''), ('string', 5, ['5'], 'type_error:simple'), ('string', 5, [5], ''), ('string', '北京 市', ['北京市'], ''), ('string', None, ['x'], 'type_error:simple'),
    ('integer', 3, [3], ''), ('integer', 4, [3], 'value_error:others'), ('integer', 3.0, [3], 'type_error:simple'), ('integer', '3', [3], 'type_error:simple'),
    ('integer', True, [1], 'type_error:simple'), ('integer', 'n', ['n'], ''), # a variable: the possible value has another type than the declared one
    ('integer', 'N', ['n'], 'value_error:others'), # and is compared as it stands
    ('float', 3, [3.0], ''), ('float', 3, [3], ''), ('float', 3.0, [3], ''), ('float', 2.5, [2.5, 3.0], ''), ('float', 2.4, [2.5], 'value_error:others'), ('float', '2.5', [2.5], 'type_error:simple'),
    ('boolean', True, [True], ''), ('boolean', False, [True], 'value_error:others'), ('boolean', 'true', [True], 'type_error:simple'), ('boolean', 1, [True], 'type_error:simple'),
    ('any', 'x', ['X'], ''), ('any', 7, [7], ''),
    ('strings', ['A b', 'c'], [['ab', 'C']], ''), ('strings', ['c', 'ab'], [['ab', 'c']], 'value_error:list/tuple'), ('strings', ['ab'], [['x'], ['ab']], ''),
    ('strings', [1], [['ab']], 'type_error:nested'), ('strings', 'ab', [['ab']], 'type_error:simple'), ('strings', [], ['', ['ab']], ''), # an empty list where it may be left out
    ('integers', [1, 2], [[1, 2]], ''), ('integers', [1, 3], [[1, 2]], 'value_error:list/tuple'), ('floats', [1, 2], [[1.0, 2.0]], 'type_error:nested'), # only the outermost int becomes a float
    ('floats', [1, 2], [[1, 2]], ''), ('tuple', [1, 2], [[1, 2]], ''), ('tuple', (1, 2), [[1, 2]], ''),
    ('dict', {'a': 'X y', 'b': 1}, [{'a': ['xy'], 'b': [1, 2]}], ''), ('dict', {'a': 'z'}, [{'a': ['xy']}], 'value_error:dict_value'), ('dict', {'c': 1}, [{'a': ['xy', '']}], 'value_error:dict_key'),
    ('dict', {}, [{'a': ['xy']}], 'value_error:dict_key'), ('dict', {}, [{'a': ['xy', '']}], ''), ('dict', {'a': 1}, [{'a': [2]}, {'a': [1]}], ''), ('dict', {'a': 1}, [''], 'dict_checker:unclear'),
    ('dict', [1], [{'a': [1]}], 'type_error:simple'),
    ('dicts', [{'a': 'X'}, {'a': 'y'}], [[{'a': ['x']}, {'a': ['y']}]], ''), ('dicts', [{'a': 'y'}, {'a': 'x'}], [[{'a': ['x']}, {'a': ['y']}]], 'value_error:dict_value'),
    ('dicts', [{'a': 'x'}], [[{'a': ['x']}, {'a': ['y']}]], 'value_error:list_dict_count'), ('dicts', ['x'], [[{'a': ['x']}]], 'type_error:nested')]


@pytest.mark.parametrize('kind, value, possible, error', cases)
def test_one_argument(kind, value, possible, error):
    found = bfcl_judgement([{'f': {'x': value}}], [function(x=one[kind])], [{'f': {'x': possible}}])
    assert (found['valid'], found['error_type']) == (not error, error), found
    assert bool(found['error']) == bool(error) or error == 'dict_checker:unclear'


city, both = {'city': ['Rome']}, [function('f', ['city'], city='string', unit='string'), function('g', city='string')]
whole = [ # functions, calls, possible answers, error type
    (both[:1], [{'f': {'city': 'Rome'}}], [{'f': city}], ''), (both[:1], [{'f': {}}], [{'f': city}], f'{SIMPLE}:missing_required'),
    (both[:1], [{'f': {}}], [{'f': {'city': ['Rome', '']}}], f'{SIMPLE}:missing_required'), # required by the function, whatever the answer says
    (both[:1], [{'f': {'city': 'Rome', 'lang': 'it'}}], [{'f': city | {'lang': ['it']}}], f'{SIMPLE}:unexpected_param'), # not declared
    (both[:1], [{'f': {'city': 'Rome', 'unit': 'c'}}], [{'f': city}], f'{SIMPLE}:unexpected_param'), # declared, but not possible
    (both[:1], [{'f': {'city': 'Rome'}}], [{'f': city | {'unit': ['c']}}], f'{SIMPLE}:missing_optional'), (both[:1], [{'f': {'city': 'Rome'}}], [{'f': city | {'unit': ['c', '']}}], ''),
    (both[:1], [{'g': {'city': 'Rome'}}], [{'f': city}], f'{SIMPLE}:wrong_func_name'), (both[:1], [], [{'f': city}], f'{SIMPLE}:wrong_count'),
    (both[:1], [{'f': {'city': 'Rome'}}]*2, [{'f': city}], f'{SIMPLE}:wrong_count'),
    (both, [{'g': {'city': 'rome'}}], [{'g': city}], ''), (both, [{'f': {'city': 'Rome'}}], [{'g': city}], f'{SIMPLE}:wrong_func_name'), (both, [], [{'g': city}], f'{MULTIPLE}:wrong_count'),
    (both, [{'g': {'city': 'Oslo'}}, {'f': {'city': 'Rome'}}], [{'f': city}, {'g': {'city': ['Oslo']}}], ''), # any order
    (both, [{'f': {'city': 'Rome'}}, {'f': {'city': 'Rome'}}], [{'f': city}, {'f': {'city': ['Oslo']}}], f'{PARALLEL}:cannot_find_match'),
    (both, [{'f': {'city': 'Rome'}}], [{'f': city}, {'g': city}], f'{PARALLEL}:wrong_count'), (both, [{'f': {'city': 'Rome'}}], [], 'irrelevance_error:decoder_success'), (both, [], [], ''),
    # each answer takes the first call that fits it, even where another choice would have served both
    (both, [{'g': {'city': 'Rome'}}, {'g': {'city': 'Oslo'}}], [{'g': {'city': ['Rome', 'Oslo']}}, {'g': city}], f'{PARALLEL}:cannot_find_match')]


@pytest.mark.parametrize('functions, calls, truth, error', whole)
def test_one_reply(functions, calls, truth, error):
    found = bfcl_judgement(calls, functions, truth)
    assert (found['valid'], found['error_type']) == (not error, error), found
    openai = [{'type': 'function', 'function': json.loads(json.dumps(f).replace('"dict"', '"object"'))} for f in functions]
    assert bfcl_judgement([Call(*next(iter(c.items()))) for c in calls], openai, truth) == found, "our own shapes are judged alike"


# --- rows and replies ---------------------------------------------------------------------------------------------------

light = {'type': 'function', 'function': {'name': 'light', 'description': 'A light', 'parameters': {'type': 'object', 'required': ['room'], 'properties': {
    'room': {'type': 'string', 'description': ''}, 'level': {'type': 'integer', 'description': ''}}}}}
blind = {'type': 'function', 'function': {'name': 'blind', 'description': 'A blind', 'parameters': {'type': 'object', 'properties': {'room': {'type': 'string', 'description': ''}}}}}


def row(id, text, *calls, **more) -> dict:
    last = {'role': 'assistant', 'tool_calls': [{'type': 'function', 'function': {'name': n, 'arguments': a}} for n, a in calls]} if calls else {'role': 'assistant', 'content': '好。'}
    return {'id': id, 'tools': [light, blind], 'messages': [{'role': 'user', 'content': text}, last], 'split': 'test', 'group': id, 'kind': 'basic', 'lang': 'zh' if text > '一' else 'en',
            'source': {'file': 'a.jsonl', 'row': 1}} | more


def said(*calls) -> str: return ''.join(render_call(Call(n, a)) for n, a in calls)+'<start_function_response>'


@pytest.fixture(scope='module')
def many() -> tuple[list[dict], list[str], list[str]]:
    "Two hundred rows, and two models that are wrong in known ways."
    rng, rooms = random.Random(3), ['hall', 'den', '厨房', 'attic']
    rows, a, b = [], [], []
    for i in range(200):
        room, level = rng.choice(rooms), rng.randint(1, 99)
        calls = [] if i % 10 == 0 else [('light', {'room': room, 'level': level})] if i % 3 else [('blind', {'room': room}), ('light', {'room': room})]
        rows.append(row(f'r{i}', f'{room} to {level}, row {i}', *calls, group=f'g{i//2}'))
        right, wrong = (said(*calls) if calls else '好。<end_of_turn>'), rng.choice([said(('light', {'room': room, 'level': 777})), 'No.', said(('blind', {})), '<start_function_call>call:light{room'])
        a.append(right if i % 4 else wrong); b.append(right if i % 5 else wrong)
    return rows, a, b


def test_scores_against_an_independent_count(many):
    "The figures of the first model, counted here from the rule by which its replies were made."
    rows, a, _ = many
    found = score(a, rows)
    call_rows = [e for e in rows if e['messages'][-1].get('tool_calls')]
    right = sum(verdict(t, e) == 'correct' for t, e in zip(a, rows))
    assert right >= 150 and found['exact_match'].value == right/200 and found['tool_call_accuracy'].n == len(call_rows) == found['refusal_rate'].n
    refused = sum('start_function_call' not in t for t, e in zip(a, rows) if e in call_rows)
    assert found['refusal_rate'].value == refused/len(call_rows)
    tools, arguments, mixed = tool_table(a, rows), argument_table(a, rows), confusion(a, rows)
    wanted = sum(len(e['messages'][-1]['tool_calls']) for e in call_rows)
    assert tools['wanted'].sum() == wanted == sum(mixed.loc[n].sum() for n in ('light', 'blind'))
    made, ok = tools['called'].sum(), tools['right'].sum()
    assert found['tool_call_f1'].value == pytest.approx(2*ok/(made+wanted))
    assert arguments['wanted'].sum() == sum(len(c['function']['arguments']) for e in call_rows for c in e['messages'][-1]['tool_calls']) and (arguments[list(OUTCOMES)].sum(axis=1) == arguments['wanted']).all()
    assert all(t['rows'].sum() == 200 for t in slices(a, rows).values())


def test_two_models(many, tmp_path):
    rows, a, b = many
    report = flip_report(a, b, rows)
    counts, lost = report.counts, set(report.of('lost')['id'])
    assert sum(counts.values()) == 200 and report.difference.value == pytest.approx((counts['gained']-counts['lost'])/200)
    assert report.difference.low <= report.difference.value <= report.difference.high and 0 < report.p <= 1
    assert write_queue(tmp_path/'queue.jsonl', report, rows) == len(lost) == counts['lost'] > 0
    assert {r['id'] for r in read_jsonl(tmp_path/'queue.jsonl')} == lost
    assert flip_report(b, a, rows).counts['gained'] == counts['lost'] and over_seeds([score(a, rows), score(b, rows)]).loc['exact_match', 'seeds'] == 2


def test_every_class_and_what_is_accepted():
    e = row('a', 'hall light at 40, den', ('light', {'room': 'hall', 'level': 40}))
    pair = row('p', 'hall blind, hall light', ('blind', {'room': 'hall'}), ('light', {'room': 'hall'}))
    on = lambda **a: said(('light', a))
    found = {verdict(t, x) for t, x in [(on(room='hall', level=40), e), (on(), row('n', 'hi')), ('No', e), ('<start_function_call>call:', e), (said(('fly', {})), e), (said(('blind', {'room': 'hall'})), e),
             (said(('blind', {'room': 'hall'})), pair), (on(room='hall', level=40)+on(room='den'), e), (on(room='hall'), e), (on(room='hall', level=40, den='den'), e),
             (on(room='hall', level='40'), e), (on(room='attic', level=40), e), (on(room='den', level=40), e)]}
    assert found == set(CLASSES)
    mild = e | {'extra': {'accept': [{'light': {'room': ['hall', 'corridor'], 'level': [40, 41, '']}}]}}
    assert [verdict(on(**a), mild) for a in ({'room': 'corridor', 'level': 41}, {'room': 'hall'}, {'room': 'Hall', 'level': 40})] == ['correct', 'correct', 'wrong value']
    assert verdict(on(room='Hall.', level=40), mild, Tolerance(text=True)) == 'correct'
    table = bfcl_table([on(room='Corridor'), on(room='hall', level=42)], [mild, mild])
    assert list(table['valid']) == [True, False] and list(table['verdict']) == ['hallucinated argument', 'hallucinated argument']


def test_findings_escape_what_data_says():
    rows = [row('x', '<script>alert(1)</script>', ('light', {'room': '<b>hall</b>'})), row('y', 'den', ('light', {'room': 'den'}), lang='<i>xx</i>', kind='<u>k</u>')]
    html = ''.join([failures_html(['<img src=x>', said(('<s>z</s>', {}))], rows), advice_html(['', ''], rows, rows), slices_html(['', ''], rows)])
    for mark in ('<script', '<b>hall', '<i>xx', '<u>k', '<img src=x', '<s>z'): assert mark not in html
    assert '&lt;script' in html and '&lt;i&gt;xx' in html


# --- whoever answers ----------------------------------------------------------------------------------------------------

class Ollama(BaseHTTPRequestHandler):
    "Answers every raw prompt with a light in the room that the last line names."
    seen: list[dict] = []
    def log_message(self, *args): pass
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        Ollama.seen.append({'path': self.path, **body})
        room = body['prompt'].split('<start_of_turn>user\n')[-1].split('<end_of_turn>')[0].split()[0]
        text = render_call(Call('light', {'room': room}))
        data = json.dumps({'response': text, 'done': True} if 'generate' in self.path else {'choices': [{'text': text, 'finish_reason': 'stop'}]}).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(data))); self.end_headers(); self.wfile.write(data)


@pytest.fixture
def exam(tmp_path) -> tuple[Path, list[dict]]:
    "A data file beside its tools, and the rows as they are read."
    write_json(tmp_path/'tools.json', [light, blind])
    write_jsonl(tmp_path/'test.jsonl', [{'id': f'r{i}', 'messages': row('', f'{r} light', ('light', {'room': r}))['messages'], 'split': 'test'} for i, r in enumerate(['hall', '厨房', 'den'])])
    return tmp_path, rows_of(tmp_path/'test.jsonl')[0]


@pytest.mark.parametrize('path', ['/api/generate', '/v1/completions'])
def test_a_server_sits_the_exam(exam, path):
    server = ThreadingHTTPServer(('127.0.0.1', 0), Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        Ollama.seen.clear()
        result = examine(f'http://127.0.0.1:{server.server_port}{path}', exam[1], model='m', progress=False)
    finally: server.shutdown(); server.server_close()
    assert result['scores']['exact_match'].value == 1 and result['kind'] == 'server' and [s['path'] for s in Ollama.seen] == [path]*3
    e = exam[1][1]
    assert Ollama.seen[1]['prompt'] == render(e['messages'][:-1], e['tools'], add_generation_prompt=True).removeprefix('<bos>') and Ollama.seen[1]['model'] == 'm'
    assert ('raw' in Ollama.seen[1]) == (path == '/api/generate')


def test_files_of_replies(exam):
    folder, rows = exam
    write_jsonl(folder/'a.jsonl', [{'id': e['id'], 'text': said(('light', {'room': r}))} for e, r in zip(rows, ['hall', '厨房', 'den'])][::-1])
    write_jsonl(folder/'b.jsonl', [{'text': said(('light', {'room': 'hall'}))} for _ in rows])
    report, shared = compare_sources(folder/'a.jsonl', folder/'b.jsonl', folder/'test.jsonl')
    assert report.counts == {'gained': 0, 'lost': 2, 'both wrong': 0, 'both right': 1} and shared == rows
    record = json.loads(json.dumps(exam_record(examine(folder/'b.jsonl', rows), rows)))
    assert record['scores']['exact_match'] == record['scores']['exact_match_rate'] and record['verdicts'] == {'correct': 1, 'hallucinated argument': 2} and len(record['replies']) == 3
    write_jsonl(folder/'c.jsonl', [{'id': 'r0', 'text': 'x'}, {'id': 'r7', 'text': 'x'}, {'id': 'r1'}])
    with pytest.raises(FaultError) as error: replies_of(folder/'c.jsonl', rows)
    assert [f.row for f in error.value.faults] == [3]
    write_jsonl(folder/'c.jsonl', [{'id': 'r0', 'text': 'x'}, {'id': 'r7', 'text': 'x'}, {'id': 'r0', 'text': 'y'}])
    with pytest.raises(FaultError) as error: replies_of(folder/'c.jsonl', rows)
    assert [f.row for f in error.value.faults] == [2, 3]
