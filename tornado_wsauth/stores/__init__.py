"""Token stores: the promise (``base``), the embedded default (``memory``) and one module for each database."""
