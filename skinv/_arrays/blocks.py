"""Dask arrays: what estimators make of them, block by block, when it is asked for.

Methods that answer matrix by matrix give dask arrays for a dask array, and compute nothing. Those
that need all matrices at once, ``fit`` and ``score``, load it, as they do every array-like.
"""

import copy
import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .projected import moved_rows, warn_of_projection
from .rows import numbered


def by_blocks(estimator: Any, method: str, *arrays: Any, **options: Any) -> Any:
    """Call a method of a fitted estimator on each block of dask arrays, later.

    By a copy, which no other fit changes and which shows no progress bars: dask has its own. The
    method answers row by row, and for no rows at all, from whose answer dtypes and shapes are
    taken. Of `arrays`, of shape (n_samples, ...), one at least is a dask array, the chunks of which
    all get along the samples. Returned are dask arrays, or a tuple or Bunch of them; what is
    computed of a block at the same time comes from one call. Messages name rows by their numbers
    in the whole array, where the sizes of its chunks are known.
    """
    import dask.array as da
    from dask import delayed

    if options.get("out") is not None:
        raise ValueError(
            "Got out for a dask array, which is not computed yet: leave it out, and write what "
            "comes back with dask.array.store."
        )
    if not all(np.ndim(X) for X in arrays):
        raise ValueError("Got an array of no dimension, but the first must be that of samples.")
    rows = next(X for X in arrays if isinstance(X, da.Array)).chunks[:1]
    lazy = [_chunked(X, *rows) for X in arrays]
    no_rows = [np.empty((0, *X.shape[1:]), X.dtype) for X in lazy]
    example = getattr(estimator, method)(*no_rows, **options)
    later = copy.deepcopy(estimator)
    if hasattr(later, "verbose"):
        later.verbose = 0
    ndim = max(X.ndim for X in lazy)
    results = da.map_blocks(
        _call_method,
        *[X[(..., *[None] * (ndim - X.ndim))] for X in lazy],
        estimator=delayed(later, traverse=False),
        method=method,
        ndims=[X.ndim for X in lazy],
        options=options,
        chunks=rows + ((1,),) * (ndim - 1),
        meta=np.empty((0,) * ndim, object),
    )
    return _parts(results, example)


def sample_by_blocks(
    sampler: Any, n_samples: int, chunks: Any, return_inverse: bool, dtype: np.dtype
) -> Any:
    """Draw dask arrays of samples block by block, later, from seeds that the sampler gives now."""
    try:
        import dask.array as da
        from dask import delayed
    except ImportError as error:
        raise ImportError(
            "Samples in chunks need the package dask: pip install 'skinv[dask]'."
        ) from error
    d = sampler.n_features_in_
    rows = ((0,),)
    if chunks != 0:
        rows = da.core.normalize_chunks((chunks, -1), (n_samples, d), dtype=dtype)[:1]
    if 0 in rows[0]:
        raise ValueError(f"Got chunks={chunks!r}, but each block must have one row or more.")
    results = da.map_blocks(
        _draw_samples,
        sampler=delayed(copy.deepcopy(sampler), traverse=False),
        entropy=sampler._rng.randint(2**32, size=4, dtype=np.uint64).tolist(),
        options={"return_inverse": return_inverse, "dtype": dtype},
        chunks=rows,
        meta=np.empty(0, object),
    )
    example = np.empty((0, d), dtype)
    return _parts(results, (example, example) if return_inverse else example)


def _chunked(X: Any, rows: tuple[float, ...]) -> Any:
    """Return a dask array with given chunks along the samples, and one along each other axis."""
    import dask.array as da

    if not isinstance(X, da.Array):
        X = np.asarray(X)
        X = da.from_array(X, chunks=X.shape)
    if any(map(math.isnan, X.shape[1:])):
        raise ValueError(
            f"Got a dask array of shape {X.shape}, but of its axes only the first may be of "
            f"unknown length: call its compute_chunk_sizes() first."
        )
    if X.ndim > 1:
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    own = X.chunks[0]
    unknown = any(map(math.isnan, own + rows))
    if len(own) != len(rows) if unknown else sum(own) != sum(rows):
        raise ValueError(
            f"Got chunks of {own} and of {rows} samples in arrays that belong together; where "
            f"their sizes are not known, call compute_chunk_sizes() first."
        )
    return X if unknown else X.rechunk({0: rows})


def _parts(results: Any, example: Any) -> Any:
    """Take results of blocks apart into dask arrays like the arrays of an example."""
    part = partial(_part, results)
    if isinstance(example, dict):
        fields = {
            key: values if isinstance(values, float) else part(key, values)
            for key, values in example.items()
        }
        found: Any = type(example)(**fields)
        for key in vars(example).get("_unknown", ()):  # what takes time only if it is asked for
            found._later(key, _later_part, results, example, key)
        return found
    if isinstance(example, tuple):
        return tuple(part(key, values) for key, values in enumerate(example))
    return part(None, example)


def _part(results: Any, key: Any, values: NDArray) -> Any:
    import dask.array as da

    if not isinstance(values, np.ndarray):
        raise ValueError(
            f"Got results of type {type(values).__name__}, but the blocks of a dask array are "
            f"arrays: set_output(transform='default')."
        )
    new = dict(zip("abc", values.shape[1:], strict=False))
    index = "ijk"[: results.ndim]
    return da.blockwise(
        _take_part, ["i", *new], results, index, key, None, new_axes=new, meta=values
    )


def _later_part(found: Any, results: Any, example: Any, key: str) -> Any:
    return _part(results, key, copy.copy(example)[key])


# -- what tasks do ---------------------------------------------------------------------------------


def _call_method(
    *blocks: Any,
    estimator: Any,
    method: str,
    ndims: Sequence[int],
    options: dict[str, Any],
    block_info: Any = None,
) -> Any:
    """Call the method on blocks, without the axes that were added to them."""
    given = [X.reshape(X.shape[:ndim]) for X, ndim in zip(blocks, ndims, strict=True)]
    whole, place = block_info[0]["shape"][0], block_info[0]["array-location"][0]
    known = not any(math.isnan(size) for size in (whole, *place))
    with numbered(range(*place), whole) if known else nullcontext():
        result = getattr(estimator, method)(*given, **options)
    moved = moved_rows(result)
    if moved.size:
        warn_of_projection(moved)
        result = np.asarray(result)
    return result


def _draw_samples(
    sampler: Any, entropy: Sequence[int], options: dict[str, Any], block_info: Any = None
) -> Any:
    """Draw a block from a stream of its own."""
    block = block_info[None]
    seed = np.random.SeedSequence(entropy, spawn_key=block["chunk-location"])
    own = copy.copy(sampler)
    own._rng = np.random.RandomState(np.random.MT19937(seed))
    return own.sample(block["chunk-shape"][0], **options)


def _take_part(result: Any, key: Any) -> Any:
    """Take a part of a block's result, out of lists that stand for the axes that are gone."""
    while isinstance(result, list):
        result = result[0]
    return result if key is None else result[key]
