"""Instrumentations of libraries, one module each, found by entry point.

PYTEST_DONT_REWRITE, as in `otelagent`.
"""
