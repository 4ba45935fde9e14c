"""Integrations with handlers that nobody here wrote. Each runs in a tox environment of its own, with what it needs."""
