"""A person's way in: JupyterLab in a browser, the first workflow notebook, Run All Cells."""
from conftest import READ_CELLS, READY, RUN_ALL, needs_browser, run_cell

pytestmark = needs_browser


dark = "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"


def pictures(page, screens, name: str, locator) -> None:
    "One part of the page in the light and in the dark theme."
    for theme in ('light', 'dark'):
        if theme == 'dark':
            page.evaluate(dark)
            page.wait_for_function('() => document.body.dataset.jpThemeLight === "false"', timeout=30_000)
            page.wait_for_timeout(1000)
        locator.scroll_into_view_if_needed()
        page.screenshot(path=screens/f'{name}_{theme}.png')


def test_run_all_in_jupyterlab(lab, page, screens):
    page.goto(lab.format('01_data_preview.ipynb'))
    page.wait_for_function(READY, timeout=90_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function('() => window.finished', timeout=400_000)
    code = [c for c in page.evaluate(READ_CELLS) if c['cell_type'] == 'code' and ''.join(c['source']).strip()]
    errors = [f"{o['ename']}: {o['evalue']}" for c in code for o in c['outputs'] if o['output_type'] == 'error']
    assert errors == [] and page.evaluate('window.finished') == 'yes'
    assert all(c['execution_count'] for c in code), 'a cell was not run'
    row = page.locator('.jp-OutputArea-output .fgnb-row').first
    row.scroll_into_view_if_needed()
    assert row.is_visible()
    page.screenshot(path=screens/'01_data_preview.png')
    table = page.locator('.fgnb-search input').first
    table.wait_for(timeout=30_000) # a widget, because somebody is there
    table.fill('转圈')
    table.press('Enter')
    page.wait_for_function("() => document.querySelector('.fgnb-told').innerText.includes('转圈')", timeout=30_000)
    shown = page.locator('.fgnb-lines .fgnb-grid').all_inner_texts()
    assert shown and all('转圈' in text for text in shown), shown[:3]
    page.locator('.fgnb-lines button').first.click()
    pair = page.locator('.fgnb-opened .fgnb-pair').first
    pair.wait_for(timeout=30_000)
    assert 'what the model sees' in pair.inner_text() and '<start_function_call>' in pair.inner_text()
    assert page.locator('.fgnb-limit .slider, .fgnb-limit .noUi-base').first.is_visible(), 'the limit can be moved'
    pictures(page, screens, '01_table', page.locator('.fgnb-lines').first)


def test_hostile_rows_in_jupyterlab(lab, page, project, screens):
    "Text of a sheet that tries to be a program stays text in the table, in opened rows and in the runtime's prompt."
    rows = ['User Prompt,Tool Name,Tool Args', '<script>window.pwned=1</script>,set_light,"{""room"": ""<img src=x onerror=window.pwned=2>"", ""on"": true}"',
            '<img src=x onerror=window.pwned=3>,nothing,"{""room"": "', '"</style><svg onload=window.pwned=4>",set_light,"{""room"": ""a"", ""on"": false}"']
    (project/'evil.csv').write_text('\n'.join(rows)+'\n', encoding='utf-8')
    source = ["from fgnb.browse import browse_files", "from fgnb.runtime import runtime_view", "from fgnb.testing import LAMP", "from fgnb.tokens import load_tokenizer",
              f"table = browse_files({str(project/'evil.csv')!r}, [LAMP], load_tokenizer('data/base')).open(2, 3, 4)", "display(table, runtime_view(table.lines[0].example))"]
    run_cell(lab, page, project, 'evil', source)
    opened = page.locator('.fgnb-opened')
    opened.wait_for(timeout=120_000)
    page.locator('.fgnb-runtime').wait_for(timeout=60_000)
    page.wait_for_timeout(1000) # an image that fails to load says so a little later
    text = opened.inner_text()
    assert '<script>window.pwned=1</script>' in text and '<img src=x onerror=window.pwned=3>' in text and 'not an example until this is mended' in text
    assert page.evaluate('window.pwned') is None and page.locator('.fgnb-opened img, .fgnb-lines img, .fgnb-runtime img, .fgnb-opened svg').count() == 0
    pictures(page, screens, 'hostile', page.locator('.fgnb-lines').first)
    page.locator('.fgnb-runtime').scroll_into_view_if_needed()
    page.screenshot(path=screens/'runtime_dark.png')


def test_a_command_is_typed(lab, page, project, screens):
    source = ["from fgnb.infer import Caller", "from fgnb.playground import Playground", "caller = Caller.load('data/base', tools='data/penguin/tools.json')", "Playground(caller).widget()"]
    run_cell(lab, page, project, 'play', source)
    line = page.locator('.fgnb-command input')
    line.wait_for(timeout=120_000)
    line.fill('跳一下，然后转个圈 <b>x</b>')
    line.press('Enter')
    answer = page.locator('.fgnb-answers .fgnb-row').first
    answer.wait_for(timeout=60_000)
    said = answer.inner_text()
    assert '<start_function_call>' in said and '%' in said and ' ms' in said and '<b>x</b>' in said, said
    page.screenshot(path=screens/'playground.png')
