"""A fitted model as an ONNX file, of standard operators only."""

import os
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .._linalg.norms import NORMS
from ._module import InverseModule, ReducedModule, to_module

# Known to the runtimes of the last years: onnxruntime 1.14, TensorRT 8.6 and later.
_OPSET, _IR_VERSION = 18, 8


def to_onnx(
    model: Any,
    path: str | os.PathLike,
    n_refine: int = 0,
    *,
    order: int | None = None,
    dtype: Any = "float32",
    layout: Literal["rows", "stack"] = "rows",
) -> Path:
    """Write a fitted model to an ONNX file, for runtimes that have no inverse.

    Parameters
    ----------
    model : estimator
        Fitted, as for :func:`skinv.export.to_module`.
    path : path-like
        File to write.
    n_refine : int, default=0
        Number of Newton-Schulz steps after the prediction.
    order : {2, 3, 4}, default=None
        Order of the steps; None is that of a CertifiedInverse, else 2.
    dtype : {"float32", "float16", "float64"} or torch.dtype, default="float32"
        Precision of input, output and weights. In half precision differences to the centre, reduced
        coordinates, residuals and refinement are computed in float32.
    layout : {"rows", "stack"}, default="rows"
        Whether the input has shape (n_samples, n*n) or (n_samples, n, n).

    Returns
    -------
    Path
        The file. Its input is "X", with any number of samples, its outputs are "inverse" (or
        "values" for another quantity) and, of a CertifiedInverse, "residual": ‖I − AX‖ of each
        matrix, in float32 (float64 for float64), which bounds the relative error where it is below
        1, but for rounding. There is no fallback in the file: what to do with a large residual is
        up to the caller.

    Raises
    ------
    ImportError
        Without onnx.
    TypeError
        For what is no path.
    ValueError
        As :func:`skinv.export.to_module`, for bfloat16, which runtimes hardly know, and for an
        unknown layout.

    Notes
    -----
    The operators are MatMul, Gemm, Add, Sub, Mul, Reshape, Transpose, Cast, Gather, those of the
    activation, for reduced coordinates Slice and Concat, and Abs, LessOrEqual, ReduceMin and Where
    for the NaN of what is far from the training, and for residuals other reductions, all of opset
    18. ONNX has no operator for the inverse; this is what replaces it.

    Examples
    --------
    >>> import onnxruntime, tempfile
    >>> from skinv import CertifiedInverse, LinearInverseApprox
    >>> model = CertifiedInverse(LinearInverseApprox([[3.0, 1.0], [1.0, 2.0]])).fit()
    >>> A = np.array([[3.1, 1.0, 0.9, 2.0]], dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = to_onnx(model, f"{folder}/inverse.onnx", n_refine=2)
    ...     session = onnxruntime.InferenceSession(path)
    >>> inverse, residual = session.run(None, {"X": A})
    >>> bool(abs(inverse.reshape(2, 2) @ A.reshape(2, 2) - np.eye(2)).max() < 1e-5)
    True
    >>> bool(residual[0] < 1e-5)
    True
    """
    if layout not in ("rows", "stack"):
        raise ValueError(f"Got layout={layout!r}, but it must be 'rows' or 'stack'.")
    module = to_module(model, n_refine, order=order, dtype=dtype)
    name = str(module.input_dtype).removeprefix("torch.")
    if name == "bfloat16":
        raise ValueError("Got dtype='bfloat16', but ONNX files are written in float16 to float64.")
    d, n = module.n_features, module.n
    if layout == "stack" and n * n != d:
        raise ValueError(f"Got layout='stack', but the model takes {d} features, no square matrix.")
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "Files in the ONNX format need the package onnx: pip install 'skinv[onnx]'."
        ) from error
    graph = _Graph(np.dtype(name), onnx)
    _build(graph, module, layout)
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "skinv", graph.inputs, graph.outputs, initializer=graph.constants
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="skinv",
    )
    onnx.checker.check_model(proto, full_check=True)
    path = Path(path)
    onnx.save(proto, path)
    return path


class _Graph:
    """Nodes, constants, inputs and outputs, put together by name."""

    def __init__(self, dtype: Any, onnx: Any):
        self.dtype, self.onnx = dtype, onnx
        self.wide = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
        self.nodes: list = []
        self.constants: list = []
        self.inputs: list = []
        self.outputs: list = []

    def constant(self, array: Any, dtype: Any = None) -> str:
        """Hold an array or a tensor, in the precision of the graph."""
        array = _array(array) if isinstance(array, Tensor) else array
        array = np.ascontiguousarray(array, dtype=dtype or self.dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def __call__(self, operator: str, *inputs: str, output: str = "", **options: Any) -> str:
        """Append a node, and return the name of its output."""
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], **options))
        return output

    def cast(self, name: str, dtype: Any) -> str:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self("Cast", name, to=kind)

    def narrowed(self, name: str) -> str:
        return name if self.dtype == self.wide else self.cast(name, self.dtype)

    def widened(self, name: str) -> str:
        return name if self.dtype == self.wide else self.cast(name, self.wide)

    def slice(self, name: str, start: int, stop: int, size: int, axis: int = 0) -> str:
        """Take a part of an axis; of all of it onnxruntime would warn."""
        if stop - start == size:
            return name
        return self("Slice", name, *(self.constant([k], np.int64) for k in (start, stop, axis)))

    def reshape(self, name: str, *shape: int, output: str = "") -> str:
        return self("Reshape", name, self.constant(shape, np.int64), output=output)

    def value(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """Describe an input or output, any number of samples of a shape."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, ["n_samples", *shape])


def _build(graph: _Graph, module: InverseModule, layout: str) -> None:
    """Write the arithmetic of a module, see its methods of the same order."""
    n, d, n_outputs = module.n, module.n_features, module.n_outputs
    shape: tuple[int, ...] = (d,) if layout == "rows" else (n, n)
    graph.inputs.append(graph.value("X", shape, graph.dtype))
    A = "X" if layout == "rows" else graph.reshape("X", -1, d)
    values = _prediction(graph, module, A)
    residual = None
    if module.n_refine or module.norm is not None:
        values, residual = _refinement(graph, module, A, values)
    if module.single_output:
        name, shape = "values", ()
    else:
        name, shape = ("inverse", shape) if n_outputs == d else ("values", (n_outputs,))
    graph.reshape(values, -1, *shape, output=name)
    graph.outputs.append(graph.value(name, shape, graph.dtype))
    if residual is not None:
        graph("Identity", residual, output="residual")
        graph.outputs.append(graph.value("residual", (), graph.wide))


def _array(tensor: Tensor) -> NDArray:
    return tensor.detach().cpu().numpy()


def _prediction(graph: _Graph, module: InverseModule, A: str) -> str:
    E = A
    if module.kept is not None:
        E = graph("Gather", E, graph.constant(module.kept, np.int64), axis=1)
    E = graph("Sub", graph.widened(E), graph.constant(module.origin, graph.wide))
    if module.scale is not None:
        E = graph("Mul", E, graph.constant(module.scale, graph.wide))
    terms = [] if module.reduced is None else [_reduced(graph, module.reduced, E)]
    E = graph.narrowed(E)
    if len(module.weights):
        h = E
        for k, (W, b) in enumerate(zip(module.weights, module.biases, strict=True)):
            if k:
                h = _activation(graph, module.activation, h)
            h = graph("Gemm", h, graph.constant(W), graph.constant(b), transB=1)
        terms.append(h)
    affine = [graph.constant(c) for c in (module.linear, module.constant) if c is not None]
    if module.linear is not None:
        affine = [graph("Gemm" if len(affine) == 2 else "MatMul", E, *affine)]
    terms += affine
    if module.series_order:
        terms.append(_series(graph, module, E))
    return reduce(partial(graph, "Add"), terms)


def _reduced(graph: _Graph, module: ReducedModule, E: str) -> str:
    """Write the arithmetic of a map in reduced coordinates, with a column for each matrix."""
    looked = graph("MatMul", E, graph.constant(module.projection, graph.wide))
    if module.shift is not None:
        looked = graph("Add", looked, graph.constant(module.shift, graph.wide))
    n_looked = module.projection.shape[1]
    z = graph.slice(looked, module.n_outside, n_looked, n_looked, axis=1)
    z = graph("Transpose", graph.narrowed(z), perm=[1, 0])
    features, coef = _terms(graph, module, z), _array(module.coef)
    if len(module.weights):
        h = graph.slice(z, 0, module.weights[0].shape[1], n_looked - module.n_outside)
        for W, b in zip(module.weights[:-1], module.biases[:-1], strict=True):
            h = graph("Gemm", graph.constant(W), h, graph.constant(_array(b)[:, None]))
            h = _activation(graph, module.activation, h)
        features.append(h)
        coef = np.vstack([coef, _array(module.weights[-1]).T])
    if not features:  # the same for each matrix
        features = [graph("Transpose", graph.narrowed(E), perm=[1, 0])]
        coef = np.zeros((len(module.projection), coef.shape[1]))
    out = graph("Concat", *features, axis=0)
    constant = graph.constant(module.constant_row)
    if module.basis is None:
        out = graph("Gemm", out, graph.constant(coef), constant, transA=1)
    else:
        few = graph("Gemm", out, graph.constant(coef), transA=1)
        out = graph("Gemm", few, graph.constant(module.basis), constant)
    if module.limits is None:
        return out
    limits = graph.constant(module.limits, graph.wide)
    known = graph.cast(graph("LessOrEqual", graph("Abs", looked), limits), np.int32)
    known = graph("ReduceMin", known, graph.constant([1], np.int64), keepdims=1)
    return graph("Where", graph.cast(known, np.bool_), out, graph.constant(np.nan))


def _terms(graph: _Graph, module: ReducedModule, z: str) -> list[str]:
    """Write the terms of coordinates, if there are any."""
    if not module.powers:
        return []
    powers, atoms = module.powers, [z]

    def leading(k: int, count: int) -> str:
        return graph.slice(atoms[k], 0, count, powers[k])

    for k, count in enumerate(powers[1:], 1):  # of degree k + 1
        new = graph("Mul", leading(0, count), leading(k - 1, count))
        new = graph("Mul", new, graph.constant((2 * k + 1) / (k + 1)))
        before = graph.constant(k / (k + 1))
        if k > 1:
            before = graph("Mul", leading(k - 2, count), before)
        atoms.append(graph("Sub", new, before))
    values = graph("Concat", *atoms, axis=0)
    for pair in module.products:
        left, right = (
            graph("Gather", values, graph.constant(index, np.int64), axis=0) for index in pair
        )
        values = graph("Concat", values, graph("Mul", left, right), axis=0)
    return [values]


def _series(graph: _Graph, module: InverseModule, E: str) -> str:
    n = module.n
    identity = graph.constant(np.eye(n))
    # All rows of all matrices in one product.
    N = graph("MatMul", graph.reshape(E, -1, n), graph.constant(module.series_right))
    N = graph.reshape(N, -1, n, n)
    P = graph("Add", N, identity)
    for _ in range(module.series_order - 1):
        P = graph("Add", graph("MatMul", N, P), identity)
    # From the right: onnxruntime up to 1.31 refuses to multiply one matrix by none.
    out = graph.reshape(graph("Transpose", P, perm=[0, 2, 1]), -1, n)
    left = graph.constant(_array(module.series_left).T)
    out = graph.reshape(graph("MatMul", out, left), -1, n, n)
    return graph.reshape(graph("Transpose", out, perm=[0, 2, 1]), -1, n * n)


def _activation(graph: _Graph, activation: str, h: str) -> str:
    if activation == "silu" and graph.dtype == np.float64:
        # onnxruntime up to 1.30 makes of h·sigmoid(h) an operator that it has not in float64.
        e = graph("Exp", graph("Neg", h))
        return graph("Div", h, graph("Add", e, graph.constant(1.0)))
    if activation == "silu":
        return graph("Mul", h, graph("Sigmoid", h))
    return graph({"relu": "Relu", "tanh": "Tanh"}[activation], h)


def _refinement(graph: _Graph, module: InverseModule, A: str, X: str) -> tuple[str, str | None]:
    n = module.n
    identity = graph.constant(np.eye(n), graph.wide)
    A, X = (graph.reshape(graph.widened(name), -1, n, n) for name in (A, X))
    for _ in range(module.n_refine):
        R = graph("Sub", identity, graph("MatMul", A, X))
        Y = X
        for _ in range(module.order - 1):
            Y = graph("Add", X, graph("MatMul", Y, R))
        X = Y
    X = graph.narrowed(X)
    if module.norm is None:
        return X, None
    R = graph("Sub", identity, graph("MatMul", A, graph.widened(X)))

    def reduced(operator: str, name: str, *axes: int) -> str:
        return graph(operator, name, graph.constant(axes, np.int64), keepdims=0)

    axis = NORMS[module.norm]
    if axis is None:
        return X, graph("Sqrt", reduced("ReduceSumSquare", R, 1, 2))
    sums = reduced("ReduceSum", graph("Abs", R), 3 + axis)
    return X, reduced("ReduceMax", sums, 1)
