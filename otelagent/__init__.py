"""otelagent: OpenTelemetry tracing for any Python application."""
