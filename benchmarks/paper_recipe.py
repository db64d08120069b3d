"""The recipe of Ji, Wu and Xi (2025) in plain torch, and what is trained by it and beside it."""

import time
import warnings
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from joblib import Parallel, delayed
from problems import problem
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skinv import LinearInverseApprox, NeuralInverseRegressor
from skinv._linalg.form import ModelForm
from skinv.datasets import make_region
from skinv.inspection import activation_regions
from skinv.learn.inference.predictor import EnginePredictorMixin

BATCH, RATE, WEIGHT_DECAY = 128, 5e-5, 1e-7
# The periods of the published warm restarts are not known. Ours are so many, of equal length.
PERIODS = 4
# region: width of the hidden layers, training matrices (None: fresh ones in every step), steps.
PUBLISHED = {
    "2x2-first": (32, 10**6, 20 * -(-(10**6) // BATCH)),
    "2x2-second": (32, 10**6, 20 * -(-(10**6) // BATCH)),
    "3x3": (72, 10**5, 200_000),
    "16x16": (2048, None, 200_000),
}
# Share of the recipe's steps, epochs of skinv (100 is its default), and steps on 16×16 (10,000): in
# full as many as take as long as the recipe's, and of 3-FC as many as an hour of a core allows.
SCALES = {
    "quick": {"share": 0.25, "epochs": 10, "16x16": {"2-FC": 500, "3-FC": 125, "skinv": 64}},
    "paper": {"share": 1.0, "epochs": 100, "16x16": {"2-FC": 5000, "3-FC": 2000, "skinv": 2048}},
    "full": {
        "share": 1.0,
        "epochs": 100,
        "16x16": {"2-FC": 200_000, "3-FC": 80_000, "skinv": 120_000},
    },
}
# Hidden units of the small network of 2x2-first.
SMALL = 8
# Methods: by the recipe, and by skinv with these parameters.
RECIPE, CONSTANT = "recipe", "recipe, constant rate"
OURS, PLAIN, RELU = "skinv", "skinv, no baseline", "skinv, ReLU"
SETTINGS = {
    OURS: {},
    PLAIN: {"baseline": None},
    RELU: {"baseline": None, "activation": "relu", "solver": "lm"},
}
# Matrices by which shares of patterns are estimated.
SAMPLES = 10**6
# Fresh matrices are drawn for so many batches at a time.
_DRAWN = 64


def perceptron(sizes):
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def epochs(X, Y, n_steps, generator):
    """Yield batches of preloaded matrices, all of them in a new order in each epoch."""
    n_batches = -(-len(X) // BATCH)
    for done in range(0, n_steps, n_batches):
        order = torch.randperm(len(X), generator=generator).to(X.device)
        batches = zip(X[order].split(BATCH), Y[order].split(BATCH), strict=True)
        for _, batch in zip(range(n_steps - done), batches, strict=False):
            yield batch


def stream(sampler, n_steps, device):
    """Yield batches of matrices that are seen once, drawn and inverted on the device."""
    for done in range(0, n_steps, _DRAWN):
        n = BATCH * min(_DRAWN, n_steps - done)
        X, Y = sampler.sample(n, device=device, dtype=torch.float32)
        yield from zip(X.split(BATCH), Y.split(BATCH), strict=True)


class PublishedRecipe(EnginePredictorMixin, BaseEstimator):
    """A fully connected ReLU network on the entries as they are, trained as published.

    Adam at 5e-5 with weight decay 1e-7 on the mean squared error of batches of 128. With `restarts`
    the rate falls to 0 along a cosine, PERIODS times; without, it is constant. First weights,
    layers and Adam (fused) are torch's.
    """

    def __init__(self, hidden_layer_sizes=(), n_steps=1, *, restarts=True, device="cpu", seed=0):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_steps = n_steps
        self.restarts = restarts
        self.device = device
        self.seed = seed

    def fit(self, X, y):
        X, y = (torch.as_tensor(a, dtype=torch.float32, device=self.device) for a in (X, y))
        generator = torch.Generator().manual_seed(self.seed)
        return self._train(X.shape[1], epochs(X, y, self.n_steps, generator))

    def fit_sampler(self, sampler):
        return self._train(sampler.center_.size, stream(sampler, self.n_steps, self.device))

    def _train(self, n_entries, batches):
        torch.manual_seed(self.seed)
        module = perceptron([n_entries, *self.hidden_layer_sizes, n_entries]).to(self.device)
        criterion = nn.MSELoss()
        optimizer = torch.optim.Adam(
            module.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        schedule = None
        if self.restarts:
            schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
                optimizer, -(-self.n_steps // PERIODS)
            )
        for x, y in batches:
            loss = criterion(module(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
        layers = [layer for layer in module if isinstance(layer, nn.Linear)]
        return self.set_layers((m.weight.detach().cpu(), m.bias.detach().cpu()) for m in layers)

    def set_layers(self, layers):
        """Take weights (n_out, n_in) and biases (n_out,) that are trained already."""
        self.layers_ = [
            (np.array(W, dtype=np.float64), np.array(b, dtype=np.float64)) for W, b in layers
        ]
        self.coefs_, self.intercepts_ = [W.T for W, _ in self.layers_], [b for _, b in self.layers_]
        self.n_features_in_, self._y_ndim = self.layers_[0][0].shape[1], 2
        self._set_engine()
        return self

    def __sklearn_is_fitted__(self):
        return hasattr(self, "layers_")

    def _make_form(self):
        zeros, ones = np.zeros(self.n_features_in_), np.ones(self.n_features_in_)
        return partial(ModelForm, zeros, zeros, None, None, self.layers_, "relu", zeros, ones)


def networks(region):
    """Return the hidden layers of the networks, those that take longest first."""
    width = PUBLISHED[region][0]
    layers = {"3-FC": (width, width), "2-FC": (width,)}
    return layers | ({"small 2-FC": (SMALL,)} if region == "2x2-first" else {})


def contests(region, scale):
    """Return what is trained: pairs of network and method."""
    if region in scale and recipe_steps(region, "2-FC", scale) == PUBLISHED[region][2]:  # hours
        return [("3-FC", RECIPE), *(("2-FC", method) for method in (RECIPE, OURS, PLAIN))]
    pairs = [(network, m) for network in networks(region) for m in (RECIPE, CONSTANT)]
    if region == "2x2-first":
        pairs += [(network, m) for network in networks(region) for m in (RELU, OURS)]
    else:
        pairs.append(("2-FC", OURS))
    return [*pairs, ("2-FC", PLAIN)]


def recipe_steps(region, network, scale):
    if region in scale:
        return scale[region][network]
    return round(scale["share"] * PUBLISHED[region][2])


def train(region, network, method, seed, scale, device):
    """Train one network on the matrices of a seed; return its errors on that seed's test set."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    sampler, X_test, Y_test = problem(region, seed)
    n_matrices, layers = PUBLISHED[region][1], networks(region)[network]
    if method in SETTINGS:
        model = NeuralInverseRegressor(
            layers, max_iter=scale["epochs"], device=device, random_state=seed, **SETTINGS[method]
        )
    else:
        model = PublishedRecipe(
            layers, recipe_steps(region, network, scale), restarts=method == RECIPE, device=device,
            seed=seed,
        )  # fmt: skip
    start = time.process_time()
    if n_matrices is not None:
        model.fit(*sampler.sample(n_matrices))
    elif method in SETTINGS:
        model.fit_sampler(sampler, scale[region]["skinv"])
    else:
        model.fit_sampler(sampler)
    run = {"network": network, "method": method, "seed": seed}
    run |= {"seconds": time.process_time() - start, **errors(model, X_test, Y_test)}
    if network == "small 2-FC" and method != OURS:  # to be taken apart
        pairs = zip(model.coefs_, model.intercepts_, strict=True)
        run["layers"] = [(W.T.tolist(), b.tolist()) for W, b in pairs]
    return run


def errors(model, X, Y):
    wrong = np.abs(model.predict(X) - Y)
    return {"error": float(wrong.mean()), "largest": float(wrong.max())}


def references(region, seed):
    """Return the errors of two orders of the series, and of the centre's inverse for all."""
    sampler, X, Y = problem(region, seed)
    model = LinearInverseApprox(sampler.center_).fit()
    second = LinearInverseApprox(sampler.center_, order=2).fit()
    constant = float(np.abs(model.inverse_.ravel() - Y).mean())
    return [
        {"network": None, "method": "linear", "seed": seed, **errors(model, X, Y)},
        {"network": None, "method": "second order", "seed": seed, **errors(second, X, Y)},
        {"network": None, "method": "centre", "seed": seed, "error": constant},
    ]


def run_region(region, scale, n_seeds, n_jobs):
    """Train everything for one region: on a GPU what is large, the rest side by side on cores."""
    device = "cuda" if region == "16x16" and torch.cuda.is_available() else "cpu"
    runs = [row for seed in range(n_seeds) for row in references(region, seed)]
    jobs = (
        delayed(train)(region, network, method, seed, scale, device)
        for network, method in contests(region, scale)
        for seed in range(n_seeds)
    )
    n_jobs = n_jobs if device == "cpu" else 1
    for run in Parallel(n_jobs=n_jobs, return_as="generator")(jobs):
        print(region, *(run[k] for k in ("network", "method", "seed", "error")), flush=True)
        runs.append(run)
    streams = PUBLISHED[region][1] is None
    ours = {"steps": scale[region]["skinv"]} if streams else {"epochs": scale["epochs"]}
    steps = {name: recipe_steps(region, name, scale) for name in networks(region)}
    return {"device": device, "recipe_steps": steps, "ours": ours, "runs": runs}


def run_patterns(trained, n_jobs):
    """Compare the affine pieces of the small networks of 2x2-first with the first order."""
    found = []
    for run in trained["runs"]:
        if "layers" not in run:
            continue
        sampler = make_region("2x2-first", random_state=run["seed"]).sampler
        model = PublishedRecipe().set_layers(run["layers"])
        frame = activation_regions(model, sampler, SAMPLES, n_jobs=n_jobs)
        B = np.linalg.inv(sampler.center_)
        gaps = np.abs(frame.attrs["maps"].coefficients + np.kron(B, B.T)).max(axis=2)
        largest = frame.filter(like="lp_max").to_numpy()
        rows = [
            {"pattern": pattern, "share": share, "gap": list(gap), "largest": list(top)}
            for pattern, share, gap, top in zip(
                frame["pattern"], frame["share"], gaps, largest, strict=True
            )
        ]
        found.append({k: run[k] for k in ("method", "seed", "error")} | {"rows": rows})
        print("patterns", run["method"], run["seed"], len(rows), flush=True)
    return {
        "samples": SAMPLES,
        "steps": trained["recipe_steps"]["small 2-FC"],
        "inverse_gap": inverse_gap(sampler),
        "networks": found,
    }


def inverse_gap(sampler):
    """Return the median of how far the derivative of the inverse is from that at the centre."""
    A = sampler.sample(10_000, return_inverse=False).reshape(-1, 2, 2)
    B, B0 = np.linalg.inv(A), np.linalg.inv(sampler.center_)
    # Of entry (i, j) by entry (k, l) it is −B_ik B_lj.
    derivative, K = (np.einsum("...ik,...lj->...ijkl", C, C) for C in (B, B0))
    return float(np.median(np.abs(derivative - K).max(axis=(1, 2, 3, 4))))
