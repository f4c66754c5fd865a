"""Python's own runtime: the context across threads and executors, trace ids in log records."""
