"""Hostile arguments for the fuzzing tests, and what is asked of every call that gets them.

A :class:`Choices` makes them, from the number of a case and nothing else, so that every function
gets the same cases, and one that fails fails again.
"""

import linecache
import pickle
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pandas
import polars
import scipy.sparse
import torch
from hostile import FAMILIES

CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
# What a call that raised a documented exception gives.
REFUSED = object()
# What is no array of numbers, or hardly one.
JUNK = (
    *(None, "3 1 1 2", b"3112", {1.0, 2.0}, {}, object(), 3, 2.5, np.nan, ..., int, Decimal(1)),
    *([], [[]], [[[]]], (), [[1, 2, 3, 4], [1, 2]], [[[1, 2], [3]]], [None], [[None]], [[{}] * 4]),
    *([["3", "1", "1", "2"]], [["a", "b", "c", "d"]], [[1, "a", None, 2]], range(4), slice(3)),
    *((x for x in [1.0, 2.0]), lambda X: X, np.array(None), np.array("2020-01-01", "M8")),
    *(np.zeros((2, 4), kind) for kind in ("M8[s]", "m8[s]", "S3", "U3", "V4", "f8,f8")),
    *(np.array([["3", "1", "1", "2"]], dtype) for dtype in ("U1", object)),
    *(scipy.sparse.csr_matrix(np.eye(2)), scipy.sparse.coo_array(np.eye(4))),
    *(torch.eye(2).to_sparse(), torch.zeros(2, 4, device="meta"), torch.tensor(1.0)),
    *(torch.zeros((2, 4), dtype=torch.bool), pandas.Series([1.0, 2.0, 3.0, 4.0])),
    *(pandas.DataFrame({"a": ["x"], "b": [1.0], "c": [None], "d": [2.0]}), polars.Series([1.0])),
    *(pandas.DataFrame([[1, 2, 3, 4]]), pandas.DataFrame([[True, None, 1, 2]])),
)


def center_of(n):
    """Return a regular matrix of order n, that all models of this order are fitted around."""
    return CENTER if n == 2 else np.eye(n) * 3 + np.arange(n * n).reshape(n, n) / (2 * n * n)


@dataclass
class Given:
    """An argument that holds data, which a call must not change.

    `numbers` is what it says as a plain array, None where it says no numbers; `layout` is "rows",
    "stack", or "wrong" where it has no matrices of the order that was asked for.
    """

    value: Any
    numbers: Any = None
    layout: str = "wrong"

    @property
    def right(self):
        return self.numbers is not None and self.layout != "wrong"

    @property
    def stack(self):
        """The matrices in float64 (complex128 if they are complex), with NaN and infinity."""
        kind = np.complex128 if np.iscomplexobj(self.numbers) else np.float64
        with np.errstate(all="ignore"):
            wide = np.asarray(self.numbers).astype(kind)
        n = round(wide.shape[-1] ** 0.5) if wide.ndim == 2 else wide.shape[-1]
        return wide.reshape(len(wide), n, n)

    @property
    def is_tensor(self):
        return isinstance(self.value, torch.Tensor)

    @property
    def eps(self):
        """The precision of the dtype that the numbers come in."""
        dtype = self.value.dtype if self.is_tensor else self.numbers.dtype
        if self.is_tensor:
            inexact = dtype.is_floating_point or dtype.is_complex
            return torch.finfo(dtype).eps if inexact else 2.0**-52
        return max(float(np.finfo(dtype).eps), 2.0**-52) if dtype.kind in "fc" else 2.0**-52

    def __repr__(self):
        return f"Given({type(self.value).__name__}, {self.layout}, {self.value!r})"


class Choices:
    """Choices of one case, a few of them wrong on purpose, or none, or very many."""

    def __init__(self, case):
        self._random = Random(case)
        self.rng = np.random.RandomState(self._random.getrandbits(32))
        self._wrong = self.of(0, 0, 0, 1, 1, 1, 2, 99)

    def of(self, *options):
        """Return one of some values; what a method of choices returns, if that is chosen."""
        value = options[self._random.randrange(len(options))]
        lazy = isinstance(value, partial) or getattr(value, "__self__", None) is self
        return value() if lazy else value

    def one_in(self, k):
        return self._random.randrange(k) == k - 1

    def slips(self, k):
        """Tell, once in k times, to do something wrong, unless enough is wrong already."""
        if self._wrong and self.one_in(k):
            self._wrong -= 1
            return True
        return False

    def rather(self, right, wrong):
        """Return one of the values that are right, or now and then of those that are not."""
        return self.of(*(wrong if self.slips(3) else right))

    def options(self, **values):
        """Return some keyword arguments, each with one of the values it may take."""
        return {name: self.of(*some) for name, some in values.items() if not self.one_in(2)}

    # -- numbers and parameters ----------------------------------------------------------------

    def number(self, *right):
        """Return a positive number, or one that is out of any range, or none at all."""
        right = right or (0.5, 1, 2.0, 1e-3, np.float32(0.25), np.uint8(3))
        wrong = (
            *(0, -1, -0.5, 1e300, 1e-300, 5e-324, np.nan, np.inf, -np.inf, np.float16(6e4)),
            *(True, np.bool_(False), np.longdouble("1e400"), np.int64(-(2**63)), 10**400),
            *("1", None, [1.0], (), np.array(2.0), np.array([]), {}, torch.tensor(0.5)),
            *(Decimal("0.5"), 1j),
        )
        return self.rather(right, wrong)

    def count(self, most=5):
        """Return a number of things, or what cannot be one; never a large one."""
        wrong = 0, -1, True, 1.0, 2.5, np.nan, np.inf, None, "2", [1], 1j, np.int64(-(2**63))
        return self.rather((1, 2, most, most, np.int64(most), np.uint8(most)), wrong)

    def choice(self, *valid):
        """Return one of some words, or another."""
        wrong = "", "nonsense", None, 0, 1.5, np.nan, [], {}, b"fro", valid[0].upper(), ...
        return self.rather(valid, wrong)

    def flag(self):
        return self.rather((True, False), (0, 1, None, "yes", np.bool_(True)))

    def seed(self):
        right = 0, 1, None, 2**32 - 1, np.random.RandomState(0)
        return self.rather(right, (-1, 2**32, 0.5, "0", [0]))

    # -- arrays --------------------------------------------------------------------------------

    def values(self, m, n, near=None, calm=False):
        """Return a float64 stack (m, n, n): near a matrix, hostile, huge, tiny, or not finite."""
        rng, kind = self.rng, "near"
        if not calm or self.slips(3):
            kind = self.of(*["near"] * 4, "family", "family", "scaled", "power", "special", "wide")
        if kind == "family":
            with np.errstate(all="ignore"):
                return FAMILIES[self.of(*FAMILIES)](rng, m, n, np.float64)
        near = center_of(n) if near is None else near
        A = near + self.of(0.05, 0.3, 1.0) * rng.uniform(-1, 1, (m, n, n))
        with np.errstate(all="ignore"):
            if kind == "scaled":
                A = A * self.of(1e300, 1e-300, 1e-310, 5e-324, 1e150, 1e-150, 1e38, 1e5, 1e-5)
            elif kind == "power":
                A = np.round(A) * 2.0 ** rng.randint(-60, 60)
            elif kind == "wide":
                A = A * 10.0 ** rng.uniform(-300, 300, (m, n, n))
        if kind == "special" and m:
            row = rng.randint(m)
            what = self.of("nan", "inf", "-inf", "all nan", "zero", "ones", "max", "near singular")
            if what in ("nan", "inf", "-inf"):
                A[row, rng.randint(n), rng.randint(n)] = float(what)
            elif what == "near singular":
                A[row, -1] = A[row, 0] * (1 + 2.0**-50)
            else:
                fill = {"all nan": np.nan, "zero": 0.0, "ones": 1.0, "max": 1.7e308}
                A[row] = fill[what]
        return A

    def dtyped(self, A, dtypes=None):
        """Return an array in one of many dtypes, and nothing about what it loses thereby."""
        usual = ["f8"] * 8 + ["f4"] * 4
        kinds = ["f2", "g", "?", "i1", "i8", "u8", ">f8", ">f4", "c16", "c8", "O", "fraction"]
        dtype = self.of(*(dtypes or usual + kinds))
        with np.errstate(all="ignore"):
            if dtype in ("c16", "c8"):
                return (A + 1j * self.rng.uniform(-0.1, 0.1, A.shape)).astype(dtype)
            if dtype == "fraction":
                A = np.where(np.isfinite(A), A, 0.0)
                flat = [Fraction(x) for x in A.ravel().tolist()]
                return np.array([*flat, None], dtype=object)[:-1].reshape(A.shape)
            if dtype in ("i1", "i8", "u8"):
                A = np.where(np.isfinite(A), A, 0.0)
                bounds = np.iinfo(dtype)
                if dtype != "i1" and self.one_in(4):  # the ends of the range
                    ends = np.array([bounds.min, bounds.max, bounds.max - 1], dtype=dtype)
                    return ends[self.rng.randint(3, size=A.shape)]
                low, high = float(bounds.min) / 2, float(bounds.max) / 2
                return np.clip(A, low, high).astype(dtype)
            return A.astype(dtype)

    def contained(self, A, tensors=True, frames=True):
        """Return the array in another memory layout or container, and its numbers again."""
        usual = ["array"] * 6
        kinds = ["fortran", "strided", "reversed", "readonly", "list", "tuple", "masked", "rows"]
        kinds += ["tensor"] * 4 * tensors + ["strided tensor", "grad"] * tensors
        kinds += ["pandas", "polars"] * (frames and A.ndim == 2 and A.shape[1] > 0)
        kind = self.of(*usual, *kinds)
        native = A.dtype.isnative and A.dtype.char not in "gO"
        if A.ndim == 0:
            return A
        if kind == "fortran":
            return np.asfortranarray(A)
        if kind == "strided":
            wide = np.repeat(A, 2, axis=0)
            return wide[::2]
        if kind == "reversed":
            return np.ascontiguousarray(A[..., ::-1])[..., ::-1]
        if kind == "readonly":
            A.flags.writeable = False
        elif kind == "list":
            return A.tolist()
        elif kind == "tuple":
            return tuple(map(tuple, A.tolist())) if A.ndim == 2 else A.tolist()
        elif kind == "rows":
            return list(A)
        elif kind == "masked":
            return np.ma.masked_array(A, mask=self.rng.uniform(size=A.shape) < self.of(0.0, 0.3))
        elif kind == "pandas":
            native = A.astype(A.dtype.newbyteorder("="))  # pandas takes no other
            return pandas.DataFrame(native, columns=[f"a{k}" for k in range(A.shape[1])])
        elif kind == "polars" and A.dtype.kind in "fiub" and A.dtype.char not in "ge":
            return polars.DataFrame(np.ascontiguousarray(A.astype(A.dtype.newbyteorder("="))))
        elif kind == "tensor" and native:
            return torch.from_numpy(A.copy())
        elif kind == "strided tensor" and native:
            return torch.from_numpy(np.repeat(A, 2, axis=0))[::2]
        elif kind == "grad" and native and A.dtype.kind in "fc":
            return torch.from_numpy(A.copy()).requires_grad_()
        return A

    def matrices(
        self, n=2, m=None, *, near=None, dtypes=None, tensors=True, layouts=None, calm=False
    ):
        """Return a Given of m matrices of order n, now and then of something else.

        Calm ones are near the centre, mostly.
        """
        if self.slips(10):
            return self.junk()
        m = self.of(1, 2, 3, 5, *[0] * (not calm)) if m is None else m
        if self.slips(10):
            return self.misshapen(n, m, tensors)
        A = self.dtyped(self.values(m, n, near, calm), dtypes)
        layout = self.of(*(layouts or ("rows", "stack")))
        A = A.reshape(m, n * n) if layout == "rows" else A
        if tensors and self.one_in(16) and A.dtype.char in "fd" and A.dtype.isnative:
            return self._half(A, layout)
        value = self.contained(A, tensors)
        return Given(value, A, layout)

    def _half(self, A, layout):
        with np.errstate(all="ignore"):
            value = torch.tensor(A).to(self.of(torch.float16, torch.bfloat16))
        return Given(value, value.double().numpy(), layout)

    def misshapen(self, n=2, m=2, tensors=True):
        """Return numbers in a shape that holds no matrices of order n as rows or a stack."""
        m = max(m, 1)
        if n == 1:
            shapes = ((), (1,), (1, 1, 1, 1), (m, 2), (m, 1, 2), (m, 0), (0, 0), (m, 4))
            A = self.dtyped(self.rng.standard_normal(self.of(*shapes)))
            return Given(self.contained(A, tensors), A)
        shape = self.of(
            *((), (n * n,), (n, n, n, n), (m, n * n + 1), (m, n, n + 1), (m, 1, n, n), (m, 0)),
            *((m, 0, 0), (0,), (0, 0), (0, 0, 0), (m, n * n, 1), (m, (n + 1) ** 2), (m, n + 1, n)),
        )
        A = self.dtyped(self.rng.standard_normal(shape))
        return Given(self.contained(A, tensors), A)

    def junk(self):
        """Return what is no numeric array at all."""
        return Given(JUNK[self._random.randrange(len(JUNK))])


def attempt(function, *args, refused=(ValueError,), **kwargs):
    """Call a function, and return what it returns, or REFUSED if it raised as documented.

    Arguments that are Given are passed by their values, and must be the same after the call. What
    the call returned must not change when they are overwritten, unless it is said to be a view. An
    error must be raised on purpose, with a message: not by NumPy or torch, by chance, unless
    something of what is given is no numbers. A TypeError is what scikit-learn raises then, too.
    """
    given = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, Given)]
    junk = any(arg.numbers is None for arg in given)
    before = [_frozen(arg.value) for arg in given]
    values = [arg.value if isinstance(arg, Given) else arg for arg in args]
    named = {k: arg.value if isinstance(arg, Given) else arg for k, arg in kwargs.items()}
    try:
        result = function(*values, **named)
    except (*refused, TypeError) as error:
        if not (junk or on_purpose(error)) or isinstance(error, np.linalg.LinAlgError):
            _tell(error, function, args, kwargs)
            raise
        result = REFUSED
    except BaseException as error:
        _tell(error, function, args, kwargs)
        raise
    after = [_frozen(arg.value) for arg in given]
    assert before == after, f"{_name(function)} changed what it was given: {given}"
    if getattr(function, "__name__", "") not in VIEWS and not {"out", "overwrite_x"} & set(kwargs):
        _overwrite(function, [arg.value for arg in given], result)
    return result


# They return what they are given, or a view of it, and say so.
VIEWS = {
    *("flatten_stack", "restore_layout", "as_stack", "real_array", "to_host", "like"),
    *("check_center", "validate_rows", "fit_resample"),
}


def _overwrite(function, values, result):
    """Overwrite arguments for a moment, and see to it that no result changes with them."""
    parts = list(result) if isinstance(result, tuple) else [result]
    parts = [p for part in parts for p in (part.values() if isinstance(part, dict) else [part])]
    parts = [part for part in parts if isinstance(part, np.ndarray | torch.Tensor)]
    held = [memory for memory in map(_memory, values) if memory is not None]
    before = [_frozen(part) for part in parts]
    copies = [np.array(memory) for memory in held]
    for memory in held:
        memory[...] = 77
    after = [_frozen(part) for part in parts]
    for memory, copy in zip(held, copies, strict=True):
        memory[...] = copy
    assert before == after, f"{_name(function)} returned memory of what it was given"


def _memory(value):
    """Return the memory of an argument as an array that can be written, or None."""
    if isinstance(value, torch.Tensor):
        plain = value.layout is torch.strided and not value.is_meta
        if not plain or value.dtype == torch.bfloat16:
            return None
        value = value.detach().resolve_neg().resolve_conj().numpy()
    usable = type(value) is np.ndarray and value.dtype.kind in "fciu" and value.flags.writeable
    return value if usable else None


def on_purpose(error):
    """Tell whether an exception comes from a `raise` of skinv, or of what it calls for users."""
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
        if frame.tb_frame.f_code.co_name == "check_random_state":  # NumPy says it for scikit-learn
            return True
    path = frame.tb_frame.f_code.co_filename
    line = linecache.getline(path, frame.tb_lineno).strip()
    ours = any(f"/{package}/" in path for package in ("skinv", "sklearn", "scipy", "dask", "torch"))
    return ours and line.startswith("raise")


def _name(function):
    return getattr(function, "__qualname__", repr(function))


def _tell(error, function, args, kwargs):
    with np.printoptions(threshold=40):
        error.add_note(f"{_name(function)}(*{args!r}, **{kwargs!r})")


def _frozen(value):
    """Return the bytes of an argument, where it has some."""
    try:
        if isinstance(value, torch.Tensor):
            wide = torch.complex128 if value.is_complex() else torch.float64
            return (value.dtype, tuple(value.shape), value.detach().to(wide).numpy().tobytes())
        if isinstance(value, np.ndarray) and value.dtype != object:
            return (value.dtype, value.shape, value.strides, np.asarray(value).tobytes())
        return pickle.dumps(value)
    except Exception:  # of generators, sparse tensors and the like
        return None
