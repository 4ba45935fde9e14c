"""``python -m tornado_wsauth doctor module:app``: says what of an application would hurt in production.

`command` is the subcommand, `checks` lists what is looked for. Nothing else of the library imports this package.
"""
