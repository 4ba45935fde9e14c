"""The reference application of tornado_wsauth: ``python -m example_app``. Read `app` first."""
