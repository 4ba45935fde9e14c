"""A real Jupyter Server with the extension of ``docs/integrations/jupyter.md``, and real IPython kernels."""
