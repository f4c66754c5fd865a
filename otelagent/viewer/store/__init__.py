"""The store of the viewer: SQLite. It knows nothing of HTTP."""
