"""A fitted model as an ONNX file, of standard operators only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._module import InverseModule, to_module

# Known to the runtimes of the last years: onnxruntime 1.14, TensorRT 8.6 and later.
_OPSET, _IR_VERSION = 18, 8


def to_onnx(
    model: Any,
    path: str | os.PathLike,
    n_refine: int = 0,
    *,
    order: int | None = None,
    dtype: Any = "float32",
    layout: str = "rows",
) -> Path:
    """Write a fitted model to an ONNX file, for runtimes that have no inverse.

    Parameters
    ----------
    model : LinearInverseApprox, NeuralInverseRegressor, StructuredInverse or CertifiedInverse
        Fitted, as for :func:`skinv.export.to_module`.
    path : path-like
        File to write.
    n_refine : int, default=0
        Number of Newton-Schulz steps after the prediction.
    order : {2, 3, 4}, default=None
        Order of the steps; None is that of a CertifiedInverse, else 2.
    dtype : {"float32", "float16", "float64"} or torch.dtype, default="float32"
        Precision of input, output and weights. In half precision differences to the centre,
        residuals and refinement are computed in float32.
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
    activation and, for residuals, reductions, all of opset 18. ONNX has no operator for the
    inverse; this is what replaces it.

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
        """Hold an array, in the precision of the graph."""
        array = np.ascontiguousarray(array, dtype=dtype or self.dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def __call__(
        self, operator: str, *inputs: str, output: str | None = None, **options: Any
    ) -> str:
        """Append a node, and return the name of its output."""
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], **options))
        return output

    def cast(self, name: str, dtype: Any) -> str:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self("Cast", name, to=kind)

    def reshape(self, name: str, *shape: int, output: str | None = None) -> str:
        return self("Reshape", name, self.constant(shape, np.int64), output=output)

    def value(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """Describe an input or output, any number of samples of a shape."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, ["n_samples", *shape])


def _build(graph: _Graph, module: InverseModule, layout: str) -> None:
    """Write the arithmetic of a module, see its methods of the same order."""
    n, d, n_outputs = module.n, module.n_features, module.n_outputs
    shape = (d,) if layout == "rows" else (n, n)
    graph.inputs.append(graph.value("X", shape, graph.dtype))
    A = "X" if layout == "rows" else graph.reshape("X", -1, d)
    values = _prediction(graph, module, A)
    inverse = n_outputs == d and not module.single_output
    name = "inverse" if inverse else "values"
    residual = None
    if module.n_refine or module.norm is not None:
        values, residual = _refinement(graph, module, A, values)
    width: tuple[int, ...] = () if module.single_output else (n_outputs,)
    if inverse:
        width = shape
    graph.reshape(values, -1, *width, output=name)
    graph.outputs.append(graph.value(name, width, graph.dtype))
    if residual is not None:
        graph("Identity", residual, output="residual")
        graph.outputs.append(graph.value("residual", (), graph.wide))


def _prediction(graph: _Graph, module: InverseModule, A: str) -> str:
    def array(tensor: Any) -> NDArray:
        return tensor.detach().double().cpu().numpy()

    E = A
    if module.kept is not None:
        E = graph("Gather", E, graph.constant(module.kept.numpy(), np.int64), axis=1)
    if module.half_precision:
        E = graph.cast(E, graph.wide)
    E = graph("Sub", E, graph.constant(array(module.origin), graph.wide))
    if module.scale is not None:
        E = graph("Mul", E, graph.constant(array(module.scale), graph.wide))
    if module.half_precision:
        E = graph.cast(E, graph.dtype)
    terms = []
    if len(module.weights):
        h = E
        for k, (W, b) in enumerate(zip(module.weights, module.biases, strict=True)):
            if k:
                h = _activation(graph, module.activation, h)
            h = graph("Gemm", h, graph.constant(array(W)), graph.constant(array(b)), transB=1)
        terms.append(h)
    if module.linear is not None and module.constant is not None:
        constants = graph.constant(array(module.linear)), graph.constant(array(module.constant))
        terms.append(graph("Gemm", E, *constants))
    elif module.linear is not None:
        terms.append(graph("MatMul", E, graph.constant(array(module.linear))))
    elif module.constant is not None:
        terms.append(graph.constant(array(module.constant)))
    if module.series_order:
        terms.append(_series(graph, module, E, array))
    out = terms[0]
    for term in terms[1:]:
        out = graph("Add", out, term)
    return out


def _series(graph: _Graph, module: InverseModule, E: str, array: Any) -> str:
    n = module.n
    identity = graph.constant(np.eye(n))
    # All rows of all matrices in one product.
    N = graph("MatMul", graph.reshape(E, -1, n), graph.constant(array(module.series_right)))
    N = graph.reshape(N, -1, n, n)
    P = graph("Add", N, identity)
    for _ in range(module.series_order - 1):
        P = graph("Add", graph("MatMul", N, P), identity)
    # From the right: onnxruntime up to 1.31 refuses to multiply one matrix by none.
    out = graph.reshape(graph("Transpose", P, perm=[0, 2, 1]), -1, n)
    out = graph.reshape(graph("MatMul", out, graph.constant(array(module.series_left).T)), -1, n, n)
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

    def widened(name: str) -> str:
        return graph.cast(name, graph.wide) if module.half_precision else name

    A, X = graph.reshape(widened(A), -1, n, n), graph.reshape(widened(X), -1, n, n)
    for _ in range(module.n_refine):
        R = graph("Sub", identity, graph("MatMul", A, X))
        Y = X
        for _ in range(module.order - 1):
            Y = graph("Add", X, graph("MatMul", Y, R))
        X = Y
    if module.half_precision:
        X = graph.cast(X, graph.dtype)
    if module.norm is None:
        return X, None
    R = graph("Sub", identity, graph("MatMul", A, widened(X)))

    def reduced(operator: str, name: str, *axes: int) -> str:
        return graph(operator, name, graph.constant(axes, np.int64), keepdims=0)

    if module.norm == "fro":
        return X, graph("Sqrt", reduced("ReduceSumSquare", R, 1, 2))
    sums = reduced("ReduceSum", graph("Abs", R), 2 if module.norm == "inf" else 1)
    return X, reduced("ReduceMax", sums, 1)
