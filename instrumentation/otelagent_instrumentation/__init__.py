"""Instrumentations of libraries, one module each, found by entry point."""
