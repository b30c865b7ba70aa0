"""Seconds of the slow parts, printed after the tests."""
SECONDS: dict[str, float] = {}


def pytest_terminal_summary(terminalreporter):
    if not SECONDS: return
    terminalreporter.section('seconds')
    for name, took in sorted(SECONDS.items(), key=lambda kv: -kv[1]): terminalreporter.write_line(f'{took:7.1f}  {name}')
