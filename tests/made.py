"""Files that tests make."""
from pathlib import Path

import openpyxl


def sheet(path: Path, *rows: list, title: str = 'Sheet', merge: str = '') -> Path:
    "A workbook with `rows`."
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows: book.active.append(row)
    if merge: book.active.merge_cells(merge)
    book.save(path)
    return path


def text(path: Path, content: str|bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
