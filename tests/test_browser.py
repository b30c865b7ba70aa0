"""A person's way in: JupyterLab in a browser, the first workflow notebook, Run All Cells."""
import json

from conftest import READ_CELLS, READY, RUN_ALL, needs_browser

pytestmark = needs_browser


def test_run_all_in_jupyterlab(lab, page, screens):
    page.goto(lab.format('01_data_preview.ipynb'))
    page.wait_for_function(READY, timeout=90_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function('() => window.finished', timeout=240_000)
    code = [c for c in page.evaluate(READ_CELLS) if c['cell_type'] == 'code' and ''.join(c['source']).strip()]
    errors = [f"{o['ename']}: {o['evalue']}" for c in code for o in c['outputs'] if o['output_type'] == 'error']
    assert errors == [] and page.evaluate('window.finished') == 'yes'
    assert all(c['execution_count'] for c in code), 'a cell was not run'
    row = page.locator('.jp-OutputArea-output .fgnb-row').first
    row.scroll_into_view_if_needed()
    assert row.is_visible() and '<start_function_call>' in row.inner_text()
    page.screenshot(path=screens/'01_data_preview.png')


def test_a_command_is_typed(lab, page, project, screens):
    source = ["from fgnb.infer import Caller", "from fgnb.playground import Playground", "caller = Caller.load('data/base', tools='data/penguin/tools.json')", "Playground(caller).widget()"]
    nb = {'cells': [{'cell_type': 'code', 'id': 'play', 'metadata': {}, 'source': '\n'.join(source), 'execution_count': None, 'outputs': []}],
          'metadata': {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}, 'nbformat': 4, 'nbformat_minor': 5}
    (project/'nbs'/'workflows'/'play.ipynb').write_text(json.dumps(nb))
    page.goto(lab.format('play.ipynb'))
    page.wait_for_function(READY, timeout=90_000)
    page.evaluate(RUN_ALL)
    line = page.locator('.fgnb-command input')
    line.wait_for(timeout=120_000)
    line.fill('跳一下，然后转个圈 <b>x</b>')
    line.press('Enter')
    answer = page.locator('.fgnb-answers .fgnb-row').first
    answer.wait_for(timeout=60_000)
    said = answer.inner_text()
    assert '<start_function_call>' in said and '%' in said and ' ms' in said and '<b>x</b>' in said, said
    page.screenshot(path=screens/'playground.png')
