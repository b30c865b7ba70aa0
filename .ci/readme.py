"""Write README.md from nbs/index.ipynb; with --check, only say whether they agree.

Cells that start with `#| hide` are left out; of those that start with `#| echo: false` only the output is shown."""
import re, sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent


def readme() -> str:
    "The index notebook as Markdown."
    nb = nbformat.read(root/'nbs/index.ipynb', 4)
    nb.cells = [c for c in nb.cells if not c.source.startswith('#| hide')]
    for cell in nb.cells:
        if cell.source.startswith('#| echo: false'): cell.setdefault('metadata', {})['tags'] = ['output-only']
    exporter = MarkdownExporter(config={'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': ['output-only']}})
    text, _ = exporter.from_notebook_node(nb)
    return '<!-- made from nbs/index.ipynb by make readme: edit there -->\n\n'+re.sub(r'\n{3,}', '\n\n', text).strip()+'\n'


if __name__ == '__main__':
    target = root/'README.md'
    if '--check' not in sys.argv: target.write_text(readme(), encoding='utf-8')
    elif not target.exists() or target.read_text(encoding='utf-8') != readme():
        sys.exit('README.md is not what nbs/index.ipynb gives: run make readme')
