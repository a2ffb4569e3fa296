"""Loads shared_fixtures.py, but not where tests are only handed out to other processes: that begins seconds sooner."""

import gc
import os


def runs_tests(config):
    return "PYTEST_XDIST_WORKER" in os.environ or not getattr(config.known_args_namespace, "numprocesses", None)


def pytest_addoption(pluginmanager):
    """Is called before the conftest.py of another folder imports more."""
    if runs_tests(pluginmanager.getplugin("pytestconfig")):
        gc.disable()  # what is imported stays: to look through it again and again takes a second
        from processes import PLAIN, begin_server

        begin_server("plain", PLAIN)


def pytest_configure(config):
    if runs_tests(config):
        config.pluginmanager.import_plugin("shared_fixtures")
