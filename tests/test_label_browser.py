"""Labelling in a real browser: keys and mouse, a killed kernel, Chinese input, hostile text, and how long a key takes."""
import base64, json, os, signal, statistics, time
from pathlib import Path

import psutil
import pytest

from conftest import READ_CELLS, READY, RUN_ALL, needs_browser, write_cell
from fgnb.data import read_examples
from fgnb.format import Call
from fgnb.label import Labeler
from fgnb.label_page import ESM
from fgnb.label_style import CSS
from fgnb.labels import Suggestion
from fgnb.schema import load_tools
from fgnb.session import Session

pytestmark = needs_browser
penguin = load_tools('data/penguin/tools.json')

boot = '''async (esm) => { const m = await import('data:text/javascript;base64,' + esm), told = []; let view = await window.toPython({do: 'hello'});
    const model = {get: () => view, on: (e, f) => told.push(f), off: () => {}, send: async message => { view = await window.toPython(message); told.forEach(f => f()); }};
    window.escaped = []; document.addEventListener('keydown', e => window.escaped.push(e.key)); m.default.render({model, el: document.body}); }'''


def bare(page, labeler) -> None:
    "The view on an empty page, tied to `labeler` without a kernel."
    def to_python(message):
        if message['do'] != 'hello': labeler.handle(message)
        return json.loads(json.dumps(labeler.view() | {'heard': message.get('seq', 0)}))
    page.expose_function('toPython', to_python)
    page.set_content('<!doctype html><meta charset="utf-8"><body>')
    page.add_style_tag(content=CSS)
    page.evaluate(boot, base64.b64encode(ESM.encode()).decode())
    page.locator('.fl-command').click()


def at(page, item: str) -> None:
    page.wait_for_function('i => document.querySelector(".fgnb-label").dataset.item === i', arg=item, timeout=120_000)


def test_keyboard_and_mouse(page, tmp_path):
    session = Session.create(tmp_path/'a.session', penguin, [{'id': str(i), 'command': c} for i, c in enumerate(['跳一下', '转个圈，开心点', '你好', '先跑再跳', 'sleep'])], who='ann')
    for id, actions in (('0', ['JUMP']), ('1', ['RUN']), ('4', ['IDLE', 'SLEEP'])): session.suggest(id, [Suggestion([Call('animate_avatar', {'actions': actions})], '', 0.9, 'run demo')])
    labeler = Labeler(session)
    bare(page, labeler)
    key = page.keyboard.press
    key('1'); at(page, '1')
    for k in ('a', 'Backspace', '5', 's', '1', 'Enter'): key(k)
    at(page, '2')
    key('n'); page.locator('.fl-words-box').wait_for(); key('a'); page.wait_for_function('() => document.activeElement.tagName === "TEXTAREA"')
    page.keyboard.type('你好呀！n1x'); key('Enter'); at(page, '3') # letters typed into a text are no commands
    page.locator('.fl-field').nth(0).locator('.fl-choice', has_text='RUN').first.click()
    page.locator('.fl-field').nth(0).locator('.fl-choice', has_text='JUMP').click()
    page.wait_for_function('() => document.querySelectorAll(".fl-chip").length === 2')
    page.locator('.fl-chip').nth(1).drag_to(page.locator('.fl-chip').nth(0))
    page.wait_for_function('() => document.querySelector(".fl-chip").textContent.includes("JUMP")')
    key('Shift+ArrowRight'); page.wait_for_function('() => document.querySelector(".fl-chip").textContent.includes("RUN")')
    page.locator('.fl-main').click(); at(page, '4')
    page.locator('.fl-chip').nth(0).locator('.fl-x').click(); page.wait_for_function('() => document.querySelectorAll(".fl-chip").length === 1')
    key('Enter'); page.locator('.fl-ended').wait_for()
    said = {i.id: i.label for i in session.items()}
    assert [said[i].calls[0].arguments for i in '0134'] == [{'actions': ['JUMP']}, {'actions': ['SPIN'], 'emotion': 'happy'}, {'actions': ['RUN', 'JUMP']}, {'actions': ['SLEEP']}]
    assert (said['2'].kind, said['2'].content) == ('no-call', '你好呀！n1x')
    key('z'); at(page, '4')
    assert session.item('4').status == 'open' and page.evaluate('window.escaped') == [] # no key left the view


def test_chinese_input_and_numbers(page, tmp_path):
    tools = load_tools([{'name': 'dim', 'description': '调光', 'parameters': {'type': 'object', 'required': ['lamp'], 'properties': {'lamp': {'type': 'string'}, 'percent': {'type': 'integer', 'minimum': 0, 'maximum': 100}}}}])
    session = Session.create(tmp_path/'a.session', tools, [{'id': 'a', 'command': '把客厅吊灯调到20'}, {'id': 'b', 'command': 'x'}], who='ann')
    labeler = Labeler(session, 'zh')
    bare(page, labeler)
    page.keyboard.press('a'); page.wait_for_function('() => document.activeElement.tagName === "TEXTAREA"')
    ime = page.context.new_cdp_session(page)
    ime.send('Input.imeSetComposition', {'text': 'diao', 'selectionStart': 4, 'selectionEnd': 4})
    page.evaluate('''() => { for (const key of ['Enter', '1', 'x', 'Escape']) document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, isComposing: true, bubbles: true, cancelable: true})); }''')
    page.wait_for_timeout(200)
    assert labeler.item.id == 'a' and page.locator('.fl-fields textarea').first.input_value() == 'diao' and session.item('a').status == 'open'
    ime.send('Input.insertText', {'text': '吊灯'}); page.wait_for_timeout(300)
    assert labeler.editor.draft.arguments == {'lamp': '吊灯'}
    page.keyboard.press('Tab'); page.wait_for_function('() => document.activeElement.flNumber')
    page.keyboard.type('2o'); page.locator('.fl-fault', has_text='not a number').wait_for()
    page.keyboard.press('Enter'); page.locator('.fl-notice', has_text='not a number').wait_for()
    assert labeler.item.id == 'a'
    page.keyboard.press('Backspace'); page.keyboard.type('0'); page.keyboard.press('Enter'); at(page, 'b')
    assert session.item('a').label.calls[0].arguments == {'lamp': '吊灯', 'percent': 20}
    page.keyboard.press('b'); at(page, 'a') # mark words with the mouse: they go into the first text field
    box = page.locator('.fl-command span').first.bounding_box()
    step = box['width']/9
    page.mouse.move(box['x']+step*1.1, box['y']+box['height']/2); page.mouse.down(); page.mouse.move(box['x']+step*4.9, box['y']+box['height']/2); page.mouse.up()
    page.wait_for_timeout(300)
    assert labeler.editor.draft.arguments['lamp'] in labeler.item.command and len(labeler.editor.draft.arguments['lamp']) >= 3 and labeler.editor.draft.arguments['lamp'] != '吊灯'


hostile = ['<script>window.hit = 1</script>', '<img src=x onerror="window.hit = 1">', '\u202eevil\u202c مرحبا שלום', '👨‍👩‍👧‍👦🏳️‍🌈👍🏽 ok', 'say <end_of_turn> <escape>', 'null \x00 byte', 'x'*20_000, '字'*20_000,
           '</textarea><svg onload="window.hit = 1">', '" onmouseover="window.hit = 1', '${window.hit = 1} {{7*7}}', 'a\u200bb\ufeffc\n\n\ttab', 'javascript:window.hit=1', '\u0007\u001b[31mred']


def test_hostile_text(page, tmp_path, screens):
    "Nothing of a command, a suggestion or a tool is ever run, and every command can be labelled or left for later."
    evil = '<img src=x onerror="window.hit = 1">'
    tools = load_tools([{'name': 'say', 'description': evil, 'parameters': {'type': 'object', 'properties': {'text': {'type': 'string', 'description': evil}, 'mode': {'enum': [evil, '<b>', 1, 1.0, '1']}}}}])
    session = Session.create(tmp_path/'a.session', tools, [{'id': f'{i}{evil}', 'command': c, 'lang': evil} for i, c in enumerate(hostile)], who='ann')
    for item in session.items(): session.suggest(item.id, [Suggestion([Call('say', {'text': item.command.replace('<escape>', '').replace('<end_of_turn>', '')})], '', 0.5, evil), Suggestion([], item.command, None, evil)])
    labeler, errors = Labeler(session), []
    page.on('pageerror', lambda e: errors.append(str(e)))
    bare(page, labeler)
    shown = []
    for i in range(len(hostile)):
        shown.append(page.locator('.fl-command').inner_text())
        for key in ('s', 'Escape', 't', 'Escape', 'v', '?', 'Escape'): page.keyboard.press(key)
        if i in (2, 3, 6): page.screenshot(path=screens/f'label_hostile_{i}.png')
        was = page.locator('.fgnb-label').get_attribute('data-item')
        page.keyboard.press('x' if 'end_of_turn' in hostile[i] else '1')
        page.wait_for_function('i => document.querySelector(".fgnb-label").dataset.item !== i', arg=was, timeout=180_000)
    assert page.evaluate('window.hit') is None and errors == []
    assert shown[0] == hostile[0] and '⟨U+202E⟩' in shown[2] and '👨‍👩‍👧‍👦' in shown[3] and '⟨U+0000⟩' in shown[5] and page.locator('img, script[src], svg').count() == 0
    done = session.progress()
    assert (done.done, done.skipped, done.flagged) == (len(hostile)-1, 1, len(hostile))
    assert all(i.label.calls[0].arguments['text'] == i.command for i in session.items() if i.label)


# --- in JupyterLab --------------------------------------------------------------------------------------------------------

def kernel(project) -> psutil.Process:
    "The kernel of this project's JupyterLab."
    return next(p for p in psutil.process_iter(['cmdline']) if 'ipykernel_launcher' in ' '.join(p.info['cmdline'] or []) and str(project) in ' '.join(p.info['cmdline']))


def run_all(page) -> None:
    page.evaluate(RUN_ALL)
    page.wait_for_function('() => window.finished', timeout=400_000)
    errors = [f"{o['ename']}: {o['evalue']}" for c in page.evaluate(READ_CELLS) if c['cell_type'] == 'code' for o in c['outputs'] if o['output_type'] == 'error']
    assert errors == [] and page.evaluate('window.finished') == 'yes'
    page.locator('.fgnb-label .fl-command').wait_for(timeout=120_000)
    page.locator('.fgnb-label .fl-command').click()


def label_one(page, how: str) -> None:
    "One label, by the way named."
    was = page.locator('.fgnb-label').get_attribute('data-item')
    press = page.keyboard.press
    if how == 'take': press('1')
    if how == 'click': page.locator('.fl-suggestion').first.click()
    if how == 'mend':
        press('a'); page.locator('.fl-active').wait_for()
        press('Backspace'); press('5'); press('Enter')
    if how == 'words': press('n'); page.locator('.fl-words-box').wait_for(); press('Enter')
    if how == 'keep': page.locator('.fl-main').click()
    page.wait_for_function('i => document.querySelector(".fgnb-label").dataset.item !== i', arg=was, timeout=180_000)


def test_labels_outlive_the_kernel(lab, page, project, screens):
    page.set_viewport_size({'width': 1280, 'height': 720})
    page.goto(lab.format('02_label.ipynb'))
    page.wait_for_function(READY, timeout=180_000)
    run_all(page)
    cells = len(page.evaluate(READ_CELLS))
    page.screenshot(path=screens/'02_label_1280.png')
    for how in ('take', 'click', 'mend', 'words', 'take'): label_one(page, how)
    session = Session.open(project/'outputs'/'sessions'/'penguin.session')
    before = {i.id: str(i.label) for i in session.items() if i.label}
    assert len(before) == 5
    os.kill(kernel(project).pid, signal.SIGKILL)
    page.locator('.jp-Dialog button.jp-mod-accept').click(timeout=120_000) # "the kernel appears to have died"
    page.wait_for_function(READY, timeout=120_000)
    run_all(page)
    assert 'labelled 5 / 30' in page.locator('.fl-top').inner_text()
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    for how in ('take', 'keep', 'mend', 'words', 'click'): label_one(page, how)
    after = {i.id: i.label for i in session.items() if i.label}
    assert len(after) == 10 and {k: str(after[k]) for k in before} == before
    assert {l.kind for l in after.values()} == {'call', 'no-call'} and any(l.origin.startswith('by hand, from suggestion') for l in after.values())
    for key in ('d', 'd', 'x', 'z', 'Escape', 'b'): page.keyboard.press(key) # commands of the notebook, had they got through
    page.wait_for_timeout(300)
    assert len(page.evaluate(READ_CELLS)) == cells, 'a key left the view'
    page.wait_for_timeout(500)
    page.screenshot(path=screens/'02_label_dark.png')
    page.set_viewport_size({'width': 1180, 'height': 720}) # the cell is about as wide as one of Colab
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    page.wait_for_timeout(800)
    page.screenshot(path=screens/'02_label_900.png')
    out = read_examples(session.export(project/'outputs'/'sessions'/'mine.xlsx'), session.tools)
    assert len(out) == 10


long_notebook = '''import tempfile, time
from pathlib import Path
from fgnb.format import Call
from fgnb.label import Labeler
from fgnb.labels import Suggestion
from fgnb.session import Session
tools = [{'name': f'tool_{i}', 'description': f'第 {i} 个函数 / function {i}', 'parameters': {'type': 'object', 'required': ['room'], 'properties': {'room': {'type': 'string'}, 'level': {'type': 'integer', 'minimum': 0, 'maximum': 100},
    'mode': {'enum': ['eco', 'warm', 'cold', 'auto']}}}} for i in range(50)]
session = Session.create('outputs/long.session', tools, [{'id': f'n{i}', 'command': f'turn the lamp in room {i} to warm 把{i}号房间调暖'} for i in range(COUNT)], who='ann')
with session.batch():
    for i in range(60): session.suggest(f'n{i}', [Suggestion([Call(f'tool_{i % 50}', {'room': f'room {i}', 'mode': 'warm'})], '', 0.8, 'rule')])
Labeler(session).widget()'''


def test_how_long_a_key_takes(lab, page, project, told):
    "Measured, not judged: fifty functions, a hundred thousand commands in the queue."
    (project/'outputs').mkdir()
    page.goto(lab.format(write_cell(project, 'long', long_notebook.replace('COUNT', '100_000'))))
    page.wait_for_function(READY, timeout=180_000)
    run_all(page)
    for _ in range(25): label_one(page, 'take')
    took = page.evaluate('document.querySelector(".fgnb-label").fgnbTimes')
    kept = took[-25:]
    found = {'tools': 50, 'commands': 100_000, 'labels': len(kept), 'median_ms': round(statistics.median(kept), 1), 'slowest_ms': round(max(kept), 1)}
    (Path(__file__).parent.parent/'outputs'/'bench').mkdir(parents=True, exist_ok=True)
    (Path(__file__).parent.parent/'outputs'/'bench'/'label_keys.json').write_text(json.dumps(found))
    told(f"from a key to the next command on the screen: median {found['median_ms']} ms, slowest {found['slowest_ms']} ms ({found['tools']} tools, {found['commands']:,} commands)")
    assert len(kept) == 25
