"""Bokeh's server: the mixin in front of the handler of its socket.

What stands in ``recipe/`` is what ``docs/integrations/bokeh.md`` shows: ``dashboard.py`` and ``auth.py``, a Bokeh
application and its login; ``serve.py`` and ``bokeh-wsauth.js``, which add tornado_wsauth on the server and in the page.
"""
