"""HTTP servers and web frameworks."""
