"""Why there are no traces: checks as data, each with what it looks at, what it found and what to do.

Imports nothing of the viewer. The viewer imports `check` and `receiving`, which therefore import nothing of the agent.
"""
