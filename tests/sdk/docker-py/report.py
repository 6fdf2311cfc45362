"""A pytest plugin that writes a line `test NAME ... ok` for each test, as the harness of this directory reads them."""

import os

_outcomes = {}


def pytest_runtest_logreport(report):
    name = report.nodeid.removeprefix("tests/integration/").replace(".py::", "::")
    if report.failed:
        _outcomes[name] = "FAILED"
    elif report.skipped:
        _outcomes[name] = "ignored"
    elif report.when == "call":
        _outcomes.setdefault(name, "ok")
    if report.when == "teardown":
        with open(os.environ["HOIST_SDK_REPORT"], "a", encoding="utf-8") as file:
            file.write(f"test {name} ... {_outcomes[name]}\n")
