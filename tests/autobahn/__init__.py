"""Autobahn's fuzzing client against a bare echo handler and the same one with our mixin: ``python -m tests.autobahn``.

It is no part of the ordinary test run, because the fuzzing client needs Python 2.7. Nobody imports this package.
"""
