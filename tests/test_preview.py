"""Looking at data: Ollama's renderer byte for byte, hostile rows, many rows, colours, costs."""
import csv, json, time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conftest import SHARED
from fgnb.browse import browse, browse_files
from fgnb.colours import contrasts
from fgnb.config import load_config
from fgnb.core import FaultError, read_jsonl
from fgnb.data import read_examples
from fgnb.format import render
from fgnb.ollama import as_request, go_number, ollama_prompt
from fgnb.preview import show, view_from_dict
from fgnb.runtime import REASONS, marked_differences, reasons, runtime_table, runtime_view
from fgnb.spread import Explorer, compare_vocabularies, length_sample
from fgnb.testing import LAMP, lamps
from fgnb.tokens import encode, load_tokenizer

root = Path(__file__).resolve().parent.parent
HOSTILE = ['<script>window.pwned=1</script>', '<img src=x onerror="window.pwned=1">', '"><svg/onload=window.pwned=1>', "'-alert(1)-'", '</style><script>window.pwned=1</script>',
           '</details></div><iframe srcdoc="<script>parent.pwned=1</script>">', '<a href="javascript:window.pwned=1">x</a>', '{{constructor}} ${7*7}', 'a\u202ebc\u200b', '<style>*{display:none}</style>']


class Tags(HTMLParser):
    "Elements and attributes of a page."
    def __init__(self, page: str):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(page)
    def handle_starttag(self, tag, attrs):
        self.tags.add(tag); self.attributes |= {(tag, k) for k, _ in attrs}


def safe(page: str) -> None:
    "Nothing of the page can run or load anything."
    seen = Tags(page)
    assert seen.tags <= {'div', 'style', 'span', 'b', 'u', 'i', 'details', 'summary', 'ul', 'li', 'table', 'tr', 'td', 'del', 'ins'}, seen.tags
    assert {k for _, k in seen.attributes} <= {'class', 'title', 'open', 'style'}, seen.attributes
    assert page.count('<style') <= 1


@pytest.fixture(scope='module')
def tokenizer(): return load_tokenizer(root/'data'/'base')


@pytest.fixture(scope='module')
def vectors():
    file = SHARED/'vectors'/'render.jsonl'
    if not file.is_file(): pytest.skip('no vectors here: set FGNB_SHARED to the folder that holds vectors/render.jsonl')
    return [r for r in read_jsonl(file) if r.get('ollama_expected') is not None]


def hostile_rows() -> list[dict]:
    "Rows whose every text tries to be something else."
    rows = lamps(len(HOSTILE))
    for i, (e, text) in enumerate(zip(rows, HOSTILE)):
        e['id'], e['kind'], e['lang'], e['split'] = f'{text} {i}', text, text, text
        e['messages'][0]['content'] = text
        e['messages'][1]['tool_calls'][0]['function']['arguments']['room'] = text
        e['source'] = {'file': f'{text}.xlsx', 'sheet': text, 'row': i+2}
        e['tools'] = [json.loads(json.dumps(LAMP).replace('Switch a light', text.replace('\\', '').replace('"', "'")))]
    return rows


def test_ollama_vectors(vectors):
    wrong = [r['id'] for r in vectors if ollama_prompt(r['messages'], r.get('tools'), r['bos_token']) != r['ollama_expected']]
    assert vectors and wrong == []
    print(f'\n{len(vectors)} vectors of Ollama\'s renderer reproduced byte for byte')


def test_reasons_where_texts_differ(vectors):
    "Reasons exactly where the two prompts differ, and none without words."
    rows = [{'id': r['id'], 'messages': [*r['messages'], {'role': 'assistant', 'content': ''}], 'tools': r.get('tools') or []} for r in vectors if r['add_generation_prompt']]
    rows += read_examples(root/'data'/'penguin'/'multi_turn.jsonl', root/'data'/'penguin'/'tools.json') + hostile_rows()
    for e in rows:
        ours, theirs = render(e['messages'][:-1], e['tools'], True), ollama_prompt(as_request(e['messages'][:-1]), e['tools'])
        assert bool(reasons(e)) == (ours != theirs) and 'other' not in reasons(e), e['id']
        parts = marked_differences(ours, theirs)
        assert ''.join(t for k, t in parts if k != 'new') == ours and ''.join(t for k, t in parts if k != 'gone') == theirs, e['id']


def test_what_ollama_refuses():
    e = lamps(1)[0]
    e['messages'] = [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'tool_calls': [{'function': {'name': 'f', 'arguments': '{"x":1}'}}]}, {'role': 'user', 'content': 'b'}, e['messages'][-1]]
    view = runtime_view(e)
    assert view.reasons == ['refused'] and view.sent == '' and 'messages[1].tool_calls[0].function.arguments' in ' '.join(view.sentences)
    with pytest.raises(FaultError): ollama_prompt([{'role': 'user', 'content': 5}])


@pytest.mark.parametrize('value, text', [(1, '1'), (2.0, '2'), (0.1+0.2, '0.30000000000000004'), (-3.5, '-3.5'), (1e21, '1e+21'), (1e-7, '1e-07'), (123456789.5, '1.234567895e+08'), (99999.5, '99999.5')])
def test_numbers_as_go_prints_them(value, text): assert go_number(value) == text


def test_runtime_table_counts_rows():
    rows = read_examples(root/'data'/'home'/'commands.xlsx', root/'data'/'home'/'tools.json')
    table = runtime_table(rows)
    assert table.attrs == {'rows': len(rows), 'differ': sum(bool(reasons(e)) for e in rows)} and set(table['reason']) <= set(REASONS)
    assert table.set_index('reason').loc['sentence', 'rows'] == len(rows)


def test_colours_meet_wcag_aa():
    seen = contrasts()
    assert (seen['text'] >= 4.5).all() and (seen['line'] >= 3).all()
    print(f'\nleast contrast: text {seen.text.min()} : 1, lines {seen.line.min()} : 1 in {seen.theme.nunique()} themes')


def test_a_row_over_the_limit(tokenizer):
    e = lamps(1)[0]
    n = len(encode(e, tokenizer))
    view = show(e, tokenizer, max_length=n-5)
    assert view.over == 5 and 'TRUNCATED' in str(view) and view.html().count('✂') == 1 and view.html().count('fgnb-beyond"') >= 1
    assert show(e, tokenizer, max_length=n).over == 0 and '✂' not in show(e, tokenizer, max_length=n).html()
    assert view_from_dict(json.loads(json.dumps(view.to_dict()))) == view
    assert 'BOS, the only one' in view.html() and 'stop token: here generation ends' in view.html()


def test_the_cut_is_seen_inside_a_fold(tokenizer):
    e = lamps(1)[0]
    e['messages'][0]['content'] = 'please turn the light on ' * 200
    n = len(encode(e, tokenizer))
    page = show(e, tokenizer, max_length=n//2).html()
    assert 'more tokens (user)' in page and '<details open>' in page and page.count('✂') == 1


@pytest.mark.parametrize('part', ['show', 'runtime', 'page', 'opened', 'pair'])
def test_hostile_rows_stay_text(part, tokenizer):
    rows = hostile_rows()
    table = browse(rows, tokenizer, size=len(rows))
    pages = {'show': lambda: [show(rows, tokenizer).html()], 'runtime': lambda: [runtime_view(e).html() for e in rows], 'page': lambda: [table.html()],
             'opened': lambda: [table.open(*(e['id'] for e in rows)).html()], 'pair': lambda: [table.pair(e['id']).html() for e in rows]}[part]()
    for page in pages:
        safe(page)
        assert '\u202e' not in page and '\u200b' not in page
    assert any('&lt;script&gt;' in page for page in pages)


def test_faulty_rows_are_in_the_table(tmp_path, tokenizer):
    sheet = tmp_path/'evil.csv'
    with sheet.open('w', encoding='utf-8', newline='') as f:
        csv.writer(f).writerows([('User Prompt', 'Tool Name', 'Tool Args', 'Note')] + [(t, 'nothing', '{"a": ', t) for t in HOSTILE] + [('开灯', 'set_light', '{"room": "a", "on": true}', '')])
    table = browse_files(sheet, [LAMP], tokenizer, size=50)
    bad = table.filter(fault='any')
    assert len(table.lines) == len(HOSTILE)+1 and len(bad.shown) == len(HOSTILE) and set(table.values('fault')) >= {'unknown-tool'}
    page = bad.open(*range(2, len(HOSTILE)+2)).html()
    safe(page)
    assert page.count('not an example until this is mended') == len(HOSTILE)
    assert table.pair(3).cells['Note'] == HOSTILE[1]


def test_filters(tokenizer):
    rows = lamps(60)
    for i, e in enumerate(rows): e |= {'lang': 'zh' if '灯' in e['messages'][0]['content'] else 'en', 'split': 'test' if i % 3 == 0 else 'train'}
    table = browse(rows, tokenizer, size=7)
    assert len(table.filter(lang='zh', split='test').shown) == sum(e['lang'] == 'zh' and e['split'] == 'test' for e in rows)
    assert len(table.filter('LIGHT kitchen').shown) == sum('light' in json.dumps(e['messages']) and 'kitchen' in json.dumps(e['messages']) for e in rows)
    lengths = [len(encode(e, tokenizer)) for e in rows]
    low, high = sorted(lengths)[10], sorted(lengths)[40]
    assert len(table.filter(shortest=low, longest=high).shown) == sum(low <= n <= high for n in lengths)
    assert len(table.page()) <= 7 and table.turn(99).number == table.pages
    assert table.filter('nothing has this').pages == 1 and len(table.page()) == 0
    assert table.jump('lamp-59').number == 9 and table.wanted == {}


def test_a_hundred_thousand_rows(tokenizer):
    some = lamps(500)
    rows = [some[i % 500] | {'id': f'lamp-{i}'} for i in range(100_000)]
    t0 = time.perf_counter()
    table = browse(rows, tokenizer)
    t1 = time.perf_counter()
    drawn = table.html() # counts the sample
    t2 = time.perf_counter()
    took = {}
    for name, wanted in {'words': {'text': '书房 true'}, 'function': {'tool': 'set_light'}, 'length': {'shortest': 90, 'longest': 120}, 'all of it': {'text': '灯', 'tool': 'set_light', 'shortest': 50}}.items():
        t = time.perf_counter()
        table.filter(**wanted).page()
        took[name] = time.perf_counter()-t
    t = time.perf_counter()
    assert table.jump('lamp-77777').here == 77777
    took['jump'] = time.perf_counter()-t
    print(f'\n100,000 rows: index {t1-t0:.1f} s, first page with a counted sample {t2-t1:.1f} s; ' + ', '.join(f'{k} {1000*v:.0f} ms' for k, v in took.items()))
    assert drawn.count('class="fgnb-grid"') == table.size == len(table.page()) == 20
    assert '2,000 of 100,000 rows counted, drawn with seed 42' in table.line() and '≈' in table.html()
    t = time.perf_counter()
    found = runtime_table(rows)
    print(f'runtime table {time.perf_counter()-t:.1f} s')
    assert found.attrs['rows'] == 100_000


def test_a_sample_is_told(tokenizer):
    lengths = length_sample(lamps(300), tokenizer, most=50, seed=7)
    assert '50 of 300 rows counted, drawn with seed 7' in Explorer(lengths).line() and 'seed 7' in Explorer(lengths).picture().alt


def test_static_without_somebody(tokenizer, monkeypatch):
    lengths, table = length_sample(lamps(20), tokenizer), browse(lamps(20), tokenizer)
    for shown in (Explorer(lengths), table): assert not any('widget' in k for k in shown._repr_mimebundle_())
    monkeypatch.setenv('FGNB_WIDGETS', '1')
    for shown in (Explorer(lengths), table):
        kinds = shown._repr_mimebundle_()
        assert 'application/vnd.jupyter.widget-view+json' in kinds and 'text/plain' in kinds


def test_the_real_vocabulary(tokenizer):
    real = SHARED/'tokenizer'/'functiongemma'
    if not real.is_dir(): pytest.skip('no real tokenizer here: set FGNB_SHARED to the folder that holds tokenizer/functiongemma')
    rows = read_examples(root/'data'/'home'/'commands.xlsx', root/'data'/'home'/'tools.json')[::5]
    table = compare_vocabularies(rows, {'offline': tokenizer, 'real': load_tokenizer(real)}).set_index(['vocabulary', 'lang'])
    assert table.loc[('offline', 'all'), 'ratio'] == 1 and table.loc[('real', 'all'), 'tokens'] > 0
    print('\n', table)


def test_costs_are_of_this_machine(tokenizer):
    from fgnb.costs import cost_table, measure_costs
    from fgnb.lengths import length_table
    config = load_config(overrides=['training.batch_size=4', 'lora.enabled=false', 'training.epochs=2'])
    rows = [e | {'split': 'train'} for e in lamps(40)]
    costs = measure_costs(config, rows, tokenizer, steps=2, budget=5)
    lengths = length_table(rows, tokenizer)
    table = cost_table(costs, lengths, [60, 256, 4096])
    assert '±' in costs.line() and 'steps of' in costs.line() and len(costs.points) >= 3 and costs.peak(costs.points[-1].batch) > 50e6
    assert table['rows_cut'].iloc[0] == len(rows) and table['rows_cut'].iloc[2] == 0 and table['memory'].iloc[1] == table['memory'].iloc[2] != table['if_full'].iloc[2]
    print('\n' + table.attrs['told']); print(costs.measured().to_string()); print(table.to_string())
