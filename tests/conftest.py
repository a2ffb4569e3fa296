"""Loads shared_fixtures.py, but not where tests are only handed out to other processes: that begins seconds sooner."""


def pytest_configure(config):
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("shared_fixtures")
