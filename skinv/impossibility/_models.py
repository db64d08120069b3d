"""Models of any kind: their certificates, and what they predict of matrices."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import loaded_torch, to_host
from .._arrays.estimators import unwrapped
from .._arrays.rows import expecting_unanswered
from .._arrays.words import Norm
from .._linalg.form import ModelForm, defined_in, form_of
from ..geometry._distance import check_distance_norm
from ._calculus import add, compose, matrix_product, scale
from ._certificates import PolynomialLipschitz, constant, identity, vector_norm
from ._coefficients import TINY


def polynomial_lipschitz(
    module: Any, norm: Norm = "l2", *, input_shape: tuple[int, ...] | None = None
) -> PolynomialLipschitz:
    """Certify that a network is polynomially Lipschitz, so that it cannot invert everywhere.

    Parameters
    ----------
    module : torch.nn.Module or estimator
        A module, whose graph of operations is traced by torch.fx and followed from operation to
        operation, as a function of its first argument; a skorch net; a fitted estimator of skinv
        but for :class:`~skinv.CertifiedInverse`; or scikit-learn's ``MLPRegressor``.
    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of the flattened input and output of one sample.
    input_shape : tuple of int, default=None
        Shape of one input, without the batch. May be left out where the first layer is linear and
        says it. Convolutions, sequences and reshaping modules need it: bounds depend on the length.

    Returns
    -------
    PolynomialLipschitz
        Polynomials P and B with ‖f(x) − f(y)‖ ≤ P(t) ‖x − y‖ and ‖f(x)‖ ≤ B(t) for all x and y of
        norm at most t. It is a proof for the exact function in evaluation mode (its constants are
        rounded up), and for softplus without its jump of 2e-9 at torch's threshold; what floating
        point adds is not covered. Tensors that forward computes without its input count as torch
        computes them. Of a tuple, the first entry counts.

    Raises
    ------
    ValueError
        For modules and functions without a rule (they are named, and :func:`register_rule` is
        pointed to), for those that are not polynomially Lipschitz (division by what may be 0,
        LayerNorm with eps = 0), for what is no function of one input (mixing samples, remembering
        or changing anything that outlives the call, drawing at random), for bounds beyond float64
        or of a degree above 4096, and where the input shape is needed.

    See Also
    --------
    failure_distance : Where such a network must fail.
    register_rule : Rules for other modules.

    Notes
    -----
    The rules are with their proofs in the code; the constants of linear layers are their induced
    norms. Attention is not Lipschitz (Kim, Papamakarios and Mnih 2021, "The Lipschitz constant of
    self-attention"), but polynomially so, of degree 2. The notion is from Ji, Wu and Xi (2025),
    "Rethinking Neural-based Matrix Inversion: Why can't, and Where can". Such a proof says that
    something is finite, not that it is small: expect the true constant to be well below P.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(4, 4)
    >>> _ = torch.nn.init.eye_(layer.weight), torch.nn.init.ones_(layer.bias)
    >>> polynomial_lipschitz(torch.nn.Sequential(layer, torch.nn.ReLU(), layer))
    PolynomialLipschitz(P=1, B=4 + t, norm='l2')
    >>> from skinv import LinearInverseApprox
    >>> polynomial_lipschitz(LinearInverseApprox(np.eye(2) / 2, order=2).fit()).degree
    1
    """
    check_distance_norm(norm)
    model = unwrapped(module)
    form = form_of(model)
    if form is not None:
        return certificate_of(form, norm)
    network = torch_module(model)
    if network is None:
        raise ValueError(
            f"Got a {type(model).__name__}, but what can be certified are torch modules, skorch "
            f"nets with their module's own output, skinv's own estimators and MLPRegressor with "
            f"squared loss, fitted, and no classes derived from them that predict otherwise."
        )
    from ._walk import walk

    return walk(network, norm, input_shape)


def held_module(model: Any) -> Any:
    """Return the torch module that a model is or, like a skorch net, holds; or None."""
    torch = loaded_torch()
    if torch is None:
        return None
    candidates = (model, getattr(model, "module_", None))
    return next((m for m in candidates if isinstance(m, torch.nn.Module)), None)


def torch_module(model: Any) -> Any:
    """Return the module that a model is, or whose own output a skorch net predicts; or None."""
    module = held_module(model)
    if module is None or module is model:
        return module
    steps = ("predict", "predict_proba", "forward", "forward_iter", "evaluation_step", "infer")
    if not defined_in(model, "skorch.", *steps) or model.predict_nonlinearity not in ("auto", None):
        return None
    # Of "auto", skorch makes a softmax or a sigmoid for these.
    losses = ("CrossEntropyLoss", "BCEWithLogitsLoss")
    return None if type(model.criterion_).__name__ in losses else module


# Sums of n rounded products are off by less than this times n times the sum of absolute values.
ROUNDING = 1e-14


def certificate_of(form: ModelForm, norm: Norm) -> PolynomialLipschitz:
    """Return the certificate of a baseline plus a perceptron."""
    from ._rules import activation, dense, induced_norm

    offset = _with_rounding(form.constant, form.matrix.T, -form.origin)
    parts = [dense(form.matrix.T, offset, (), norm)]
    if form.taylor is not None:
        center, inverse, order = form.taylor
        # Σ (−A₀⁻¹E)ʲ A₀⁻¹ with E = A − A₀; A₀⁻¹E is a map of the columns of E.
        E = add(identity(norm), constant(vector_norm(center, norm), norm))
        G = scale(E, induced_norm(inverse, norm))
        terms = [constant(vector_norm(inverse, norm), norm)]
        for _ in range(order):
            terms.append(matrix_product(G, terms[-1], len(center)))
        parts.extend(terms)
    if form.layers:
        (W, b), *others = form.layers
        # On a itself: W (a − mean)/scale + b.
        with np.errstate(all="ignore"):
            divided = W / form.x_scale
            divided = np.where(W != 0, np.copysign(np.maximum(np.abs(divided), TINY), W), 0.0)
        b = _with_rounding(b, divided, -form.x_mean)
        network = dense(divided, b, (), norm)
        for W, b in others:
            network = compose(activation(form.activation, W.shape[1], norm), network)
            network = compose(dense(W, b, (), norm), network)
        parts.append(network)
    return add(*parts)


def _with_rounding(b: NDArray, W: NDArray, x: NDArray) -> NDArray:
    """Return W x + b in absolute value, and what rounding of it may be above that."""
    with np.errstate(all="ignore"):
        sums = np.abs(b) + np.abs(W) @ np.abs(x)
        some = (W != 0) @ (x != 0)  # and where products vanish
        return np.abs(b + W @ x) + np.where(some, len(x) * (ROUNDING * sums + 2 * TINY), 0.0)


class Predictions:
    """What a model predicts for stacks of n x n matrices, exactly as it gets them."""

    def __init__(self, model: Any, n: int):
        self.model, self.n = model, n
        self._network = network = held_module(model)
        if isinstance(model, type) or (network is None and not hasattr(model, "predict")):
            raise TypeError(
                f"Got {model!r}, but a fitted regressor of inverses or a torch module is expected."
            )
        # What operations of torch raise for shapes that do not fit.
        self._of_networks = (IndexError, TypeError, AttributeError) if network else ()
        held = [] if network is None else [*network.parameters(), *network.buffers()]
        self._dtype: Any = next((t.dtype for t in held if t.is_floating_point()), None)
        finfo = np.finfo(float) if self._dtype is None else loaded_torch().finfo(self._dtype)
        self.eps = float(finfo.eps)  # distance from 1 to the next number it can be given

    def round(self, stack: NDArray) -> NDArray[np.float64]:
        """Return the nearest matrices that the model can be given; infinity where there is none."""
        if self._dtype is None:
            return stack.astype(np.float64)
        torch = loaded_torch()
        return torch.tensor(stack).to(self._dtype).double().numpy()

    def __call__(self, stack: NDArray) -> NDArray[np.float64]:
        """Return the predictions for matrices (m, n, n) as float64 (m, n, n)."""
        rows = np.array(stack, dtype=np.float64).reshape(len(stack), -1)  # a copy
        try:
            with expecting_unanswered():  # these rows are not the caller's
                predicted = self._predict(rows)
        except np.linalg.LinAlgError:  # of a model that inverts, at a singular matrix
            predicted = np.concatenate([self._predict_one(row[None]) for row in rows])
        except (RuntimeError, *self._of_networks) as exception:
            raise ValueError(
                f"{type(self.model).__name__} fails on rows of {self.n**2} entries: {exception}"
            ) from exception
        predicted = np.asarray(to_host(predicted), dtype=np.float64)
        if predicted.size != rows.size:
            raise ValueError(
                f"Got predictions of shape {predicted.shape} for {len(rows)} matrices of order "
                f"{self.n}, but inverses are expected: rows of {self.n**2} entries."
            )
        return predicted.reshape(-1, self.n, self.n)

    def _predict(self, rows: NDArray) -> Any:
        if self._network is None:
            return self.model.predict(self._named(rows))
        if self._network is self.model:
            return self._call_module(rows)
        torch = loaded_torch()
        tensor = torch.tensor(rows).to(self._dtype)
        half = self._dtype in (torch.float16, torch.bfloat16)  # which NumPy does not know, or keep
        return self.model.predict(tensor if half else tensor.numpy())

    def _predict_one(self, row: NDArray) -> NDArray:
        try:
            return np.reshape(to_host(self._predict(row.copy())), row.shape)
        except np.linalg.LinAlgError:
            return np.full(row.shape, np.nan)

    def _call_module(self, rows: NDArray) -> Any:
        """Call a torch module in evaluation mode, and leave the modes of its parts as they are."""
        torch = loaded_torch()
        device = next((p.device for p in self._network.parameters()), None)
        modes = [(part, part.training) for part in self._network.modules()]
        self._network.eval()
        try:
            with torch.no_grad():
                out = self._network(torch.tensor(rows).to(device=device, dtype=self._dtype))
        finally:
            for part, training in modes:
                part.training = training
        return (out[0] if isinstance(out, tuple) else out).double()

    def _named(self, rows: NDArray) -> Any:
        """Return rows as the data frame that a model fitted to one expects."""
        names = getattr(self.model, "feature_names_in_", None)
        if names is None:
            return rows
        if len(names) != rows.shape[1]:
            raise ValueError(
                f"Got a model of {len(names)} features and matrices of {rows.shape[1]} entries, "
                f"but both must be of one size."
            )
        import pandas

        return pandas.DataFrame(rows, columns=names)
