"""Fuzzing of exported models."""

import pathlib
import tempfile
from functools import partial

import numpy as np
import torch
from strategies import REFUSED, Given, attempt

from fuzzing.common import entry, on_host
from fuzzing.models import a_model, scalar, series, symmetric
from skinv import (
    CertifiedInverse,
    export,
)


def export_options(c):
    right = "float32", "float64", "float16", "bfloat16", torch.float32, np.float32, "f4"
    return c.options(
        n_refine=[0, partial(c.count, 2)],
        order=[None, partial(c.rather, (2, 3, 4), (0, 1, 5, "2", 2.5))],
        dtype=[partial(c.rather, right, (int, "f9", None, [], 5))],
    )


@entry("export.to_module")
def fuzz_to_module(c):
    model = CertifiedInverse(series(), norm=c.of("fro", "inf")) if c.one_in(6) else a_model(c)
    module = attempt(export.to_module, model, **export_options(c))
    if module is REFUSED or module.n_features != 4:
        return
    X = symmetric()[:3]
    with torch.no_grad():
        found = module(torch.tensor(X).to(module.input_dtype))
    values = found[0] if isinstance(found, tuple) else found
    assert tuple(values.shape) == ((3,) if model is scalar() else (3, 4))
    if module.input_dtype == torch.float64 and module.n_refine == 0 and module.norm is None:
        assert np.allclose(on_host(values), model.predict(X), rtol=1e-9, atol=1e-9)


@entry("export.to_onnx")
def fuzz_to_onnx(c):
    model = CertifiedInverse(series()) if c.one_in(6) else a_model(c)
    with tempfile.TemporaryDirectory() as folder:
        right = f"{folder}/a.onnx", pathlib.Path(folder, "b")
        path = c.rather(right, [Given(c.of(None, 5, [], 1.5))])
        options = {
            **export_options(c),
            **c.options(layout=["rows", "stack", partial(c.choice, "rows")]),
        }
        found = attempt(export.to_onnx, model, path, **options)
        assert found is REFUSED or found.stat().st_size > 0
