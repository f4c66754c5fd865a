"""The viewer's server: OTLP in, the API and the page out, on loopback alone."""
