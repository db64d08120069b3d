"""Words that public signatures take, as types: a type checker finds one that is misspelt."""

from typing import Literal

# Of entries, as geometry has them; those of regions; of errors, or as NumPy has them.
Norm = Literal["l1", "l2", "linf"]
RegionNorm = Literal["linf", "l2", "l1", "mahalanobis"]
ErrorNorm = Literal["fro", "inf", "1"] | float

Fallback = Literal["exact", "exact-raise", "nan", "keep", "raise"]
Series = Literal["auto", "taylor", "taylor2", "taylor3"]
Auto = Literal["auto"]
Beyond = Literal["nan", "keep"]
Precision = Literal["float32", "float64"]
ErrorMetric = Literal[
    "neg_mean_absolute_error",
    "neg_root_mean_squared_error",
    "neg_max_error",
    "neg_relative_error",
    "neg_residual",
]
