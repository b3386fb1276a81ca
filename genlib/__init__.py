"""genlib, the helper package of the book *Generative Models, Verified*.

Data flows one way: ``data`` → model → ``training`` → ``metrics`` → ``plotting`` and ``widgets``. Every model and
every exact source speaks the same small language: ``log_prob``, ``sample``, ``loss``. Importing genlib changes no
global state.
"""

__version__ = "0.1.0"
