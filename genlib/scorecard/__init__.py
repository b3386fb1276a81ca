"""The scorecard: every family of the book under one protocol, and the table of what was measured.

`run` trains one model on one target and measures it; `load` reads the stored runs. The recipes stand in
`genlib.scorecard.points` and `genlib.scorecard.images`.
"""

from genlib.scorecard.protocol import MODELS, PROTOCOL, TARGETS, TRUTH, Result, Row, run
from genlib.scorecard.recipe import Recipe
from genlib.scorecard.table import (
    STORED,
    column,
    key,
    load,
    load_samples,
    mean,
    save,
    save_samples,
    select,
    versions,
)

__all__ = [
    "MODELS",
    "PROTOCOL",
    "STORED",
    "TARGETS",
    "TRUTH",
    "Recipe",
    "Result",
    "Row",
    "column",
    "key",
    "load",
    "load_samples",
    "mean",
    "run",
    "save",
    "save_samples",
    "select",
    "versions",
]
