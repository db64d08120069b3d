"""Hostile regressors and families, and attacks on proofs of regions, models and networks."""

import copy
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from torch import nn

from skinv.impossibility import polynomial_lipschitz

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import lipschitz

refusals = Counter()


@contextmanager
def flushed(on):
    """Flush subnormal numbers to zero, if `on`; other modes that are set inside are undone, too."""
    precision = torch.get_float32_matmul_precision()
    torch.set_flush_denormal(bool(on))
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision(precision)


def safe_inverse(A):
    """Return inverses by LAPACK, and something else where it meets a zero pivot."""
    with np.errstate(all="ignore"):
        try:
            return np.linalg.inv(A)
        except np.linalg.LinAlgError:
            out = A.copy()
            for i, M in enumerate(A):
                try:
                    out[i] = np.linalg.inv(M)
                except np.linalg.LinAlgError:
                    out[i] = np.eye(len(M))
            return out


def doubled(X):
    """Double in place, which scikit-learn's transformers may do with copy=False."""
    X = np.asarray(X)
    if X.flags.writeable:
        X *= 2
        return X
    return 2 * X


class Hostile(RegressorMixin, BaseEstimator):
    """A regressor that knows inverses well, and does what regressors should not do."""

    WAYS = ("good", "small", "overwrite", "view", "buffer", "training", "same", "mixed")
    WAYS += ("garbage", "nan", "huge", "raise", "mode", "object", "fortran")

    def __init__(self, way="good", seed=0):
        self.way, self.seed = way, seed

    def fit(self, X, y=None):
        self.X_, self.y_ = X, y
        self.n_features_in_ = X.shape[1] if hasattr(X, "shape") else len(X[0])
        self.rng_ = np.random.RandomState(self.seed)
        self.held_ = None
        return self

    def __sklearn_is_fitted__(self):
        return hasattr(self, "X_")

    def _guess(self, X):
        rows = np.asarray(X)
        m, n = len(rows), round(rows.reshape(len(rows), -1).shape[1] ** 0.5) if len(rows) else 1
        if n * n != rows.reshape(m, -1).shape[1]:
            return np.zeros_like(rows)
        A = np.nan_to_num(np.array(rows, dtype=np.float64)).reshape(m, n, n)
        with np.errstate(all="ignore"):
            largest = np.abs(A).max(axis=2, initial=5e-324)
            unit = np.frexp(np.where(largest > 0, largest, 1))[1]
            A = np.ldexp(A, -unit[:, :, None])
            return np.ldexp(safe_inverse(A), -unit[:, None, :]).reshape(rows.shape)

    def predict(self, X):
        rng, way = self.rng_, self.way
        if way == "family":
            return rng.standard_normal((len(X), self.y_.shape[1]))
        Y = self._guess(X)
        ways = np.full(len(Y), way)
        if way == "mixed":
            ways = rng.choice(["good", "garbage", "nan", "huge", "small"], len(Y))
        with np.errstate(all="ignore"):
            small = Y * (1 + 10.0 ** -rng.uniform(0, 12) * rng.standard_normal(Y.shape))
            for name, values in (
                ("small", small),
                ("overwrite", small),
                ("garbage", rng.standard_normal(Y.shape)),
                ("nan", np.full(Y.shape, np.nan)),
                ("huge", np.full(Y.shape, 1e300)),
            ):
                Y[ways == name] = values[ways == name]
        if way in ("training", "overwrite"):
            for kept in (self.X_, self.y_) if way == "training" else (X,):
                if kept is not None:
                    kept[...] = 1.25
        elif way == "view":
            X[...] = Y
            return X
        elif way == "buffer":
            if self.held_ is None or self.held_.shape != Y.shape:
                self.held_ = np.zeros(Y.shape)
            self.held_[...] = Y
            return self.held_.view()
        elif way == "same":
            return np.broadcast_to(Y[:1], Y.shape) if len(Y) else Y
        elif way == "raise" and rng.uniform() < 0.4:
            raise ValueError("no answer")
        elif way == "mode":
            torch.set_flush_denormal(True)
            torch.set_float32_matmul_precision("medium")
        elif way == "object":
            return Y.astype(object)
        elif way == "fortran":
            return np.asfortranarray(Y.astype(np.float32))
        return Y


class Family:
    """A family of matrices that returns the same buffer each time, and spoils its arguments."""

    def __init__(self, n, seed):
        rng = np.random.RandomState(seed)
        self.base, self.slope = 2 * np.eye(n), rng.standard_normal((2, n, n))
        self.unit = int(rng.choice([0, 0, 100, -100, 500, -500, -1060, 1000]))
        self.single, self.returned, self.buffer = bool(rng.randint(2)), [], None

    def __call__(self, p):
        p = np.asarray(p)
        with np.errstate(all="ignore"):
            A = self.base + np.einsum("mk,kij->mij", p * [1, 0], self.slope) * 0.4
            # The second parameter takes the matrices towards a singular one.
            A[:, -1] *= 1 - np.abs(p[:, 1:]) ** 0.1 * (p[:, 1:] > 0)
            A = np.ldexp(A, self.unit)
            A = A.astype(np.float32) if self.single and abs(self.unit) < 120 else A
        if self.buffer is None or self.buffer.shape != A.shape or self.buffer.dtype != A.dtype:
            self.buffer = A.copy()
        self.buffer[...] = A
        self.returned = [self.buffer.copy()]
        p[...] = 7.0
        return self.buffer


# -- networks --------------------------------------------------------------------------------------

LAYERS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.SELU, nn.Softplus)
LAYERS += (nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.LogSigmoid, nn.Tanhshrink, nn.LeakyReLU)
LAYERS += (nn.PReLU, nn.CELU, nn.ReLU6, nn.Hardsigmoid)


class Block(nn.Module):
    """A few layers in one of the ways in which networks combine them."""

    def __init__(self, way, width, rng):
        super().__init__()
        self.way, self.width = way, width
        self.f, self.g = (
            nn.Sequential(nn.Linear(width, width), LAYERS[rng.randint(len(LAYERS))]())
            for _ in range(2)
        )
        if way == "attention":
            self.attention = nn.MultiheadAttention(width // 4, 1, batch_first=True)
        elif way == "recurrent":
            kind = (nn.LSTM, nn.RNN)[rng.randint(2)]
            self.memory = kind(width // 4, width // 4, batch_first=True)
        elif way == "convolution":
            self.convolution = nn.Conv1d(4, 4, 3, padding=1, groups=int(rng.choice([1, 2])))
        elif way == "transformer":
            self.layer = nn.TransformerEncoderLayer(
                width // 4, 1, 8, 0.0, batch_first=True, norm_first=bool(rng.randint(2))
            )
        elif way == "norm":
            self.layer = (nn.LayerNorm, nn.BatchNorm1d)[rng.randint(2)](width)

    def forward(self, x):
        tokens = x.reshape(-1, 4, self.width // 4)
        if self.way == "residual":
            return x + self.f(self.g(x))
        if self.way == "gate":
            return self.f(x) * self.g(x)
        if self.way == "power":
            return self.f(x) ** 3 - x * 0.5
        if self.way == "attention":
            return self.attention(tokens, tokens, tokens)[0].flatten(1)
        if self.way == "recurrent":
            return self.memory(tokens)[0].flatten(1)
        if self.way == "convolution":
            return self.convolution(tokens).flatten(1)
        if self.way == "transformer":
            return self.layer(tokens).flatten(1)
        if self.way == "norm":
            return self.layer(x)
        if self.way == "softmax":
            return torch.softmax(self.f(x), dim=-1) * x
        if self.way == "product":
            return (tokens @ self.f(x).reshape(-1, self.width // 4, 4)).flatten(1)[:, : self.width]
        if self.way == "joined":
            return torch.cat([self.f(x), torch.clamp(x, -1, 2)], dim=1)[:, ::2]
        return self.f(x)


WAYS = ("plain", "residual", "gate", "power", "attention", "recurrent", "convolution")
WAYS += ("transformer", "norm", "softmax", "product", "joined")


def a_network(rng):
    """Return a random network, weights of all sizes, and its number of inputs."""
    torch.manual_seed(int(rng.randint(2**31)))
    features, width = int(rng.choice([4, 9])), int(rng.choice([8, 12]))
    blocks = [Block(str(rng.choice(WAYS)), width, rng) for _ in range(rng.randint(1, 4))]
    network = nn.Sequential(
        nn.Linear(features, width), *blocks, nn.Linear(width, features, bias=bool(rng.randint(2)))
    )
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.01, 3)
        for weights in network.parameters():
            weights *= float(10.0 ** rng.choice([0, 0, 0, 1, -1, -3]))
    return network.eval(), features


def attack_networks(score, rng, m):
    """Compare certificates of networks with difference quotients."""
    for _ in range(m):
        mode, family = str(rng.choice(["gradual", "flush"])), "polynomial_lipschitz"
        network, features = a_network(rng)
        ways = [part.way for part in network.modules() if isinstance(part, Block)]
        certificates = []
        for norm in lipschitz.NORMS:
            try:
                with flushed(mode == "flush"):
                    certificates.append(
                        polynomial_lipschitz(network, norm, input_shape=(features,))
                    )
            except ValueError as error:
                score.refused(family, mode, 1, error)
        exact = copy.deepcopy(network).double()
        if not certificates:
            continue
        found = lipschitz.worst(exact, (features,), certificates, 2000, int(rng.randint(99)))
        for certificate in certificates:
            share = found[certificate.norm]
            if not share <= lipschitz.SLACK:
                data = {"network": repr(network), "ways": ways, "share": share}
                score.violation(family, mode, "a certificate is broken", **data)
            score.add(family, mode, 1, 1)


ATTACKS = {"polynomial_lipschitz": (attack_networks, 600, 5)}
