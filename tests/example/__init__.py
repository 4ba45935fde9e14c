"""Tests of the reference application: its routes, its WebSocket, its page, how it is built and how it runs."""
