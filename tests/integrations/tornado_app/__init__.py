"""A Tornado application with logins by cookie, XSRF protection and a `BaseHandler` of its own.

What stands in ``recipe/`` is what ``docs/integrations/tornado.md`` shows: ``chatapp.py``, an application as somebody
else would have written it, and ``secured.py``, which adds tornado_wsauth without touching it.
"""
