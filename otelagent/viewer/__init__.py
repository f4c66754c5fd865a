"""The embedded collector and viewer: OTLP in, SQLite behind it, a page in front; a process of its own.

It shares the wire format with the rest of otelagent and nothing else, and the agent imports nothing of it.
"""
