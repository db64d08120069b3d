"""
A tower that must not buckle: proofs over all parameters
========================================================

A tower stands if its stiffness matrix is regular, and stays so while the load grows from nothing.
But for which matrix is that to be shown? The areas of its bars have tolerances, loads vary, and a
jack that keeps the top in place has a gain that drifts. There are infinitely many matrices
A(p) = A₀ + Σ pᵢAᵢ, one for each set p of parameters, and samples of them prove nothing.

:func:`skinv.geometry.family_certificate` proves that none of them is singular, and with what
margin, and :func:`skinv.geometry.largest_regular_box` how large the tolerances may be.
"""

# %%
# The tower
# ---------
# Eight storeys of pin-jointed bars, with two supports and 32 degrees of freedom. A bar of length l
# adds area/l · bbᵀ to the stiffness, where bᵀu is by how much it is lengthened, and the force in it
# the geometric stiffness force/l · nnᵀ, where nᵀu is the sideways motion. That is what makes a
# compressed tower buckle. (The forces are those of the nominal areas.)

import itertools
import time

import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
from scipy.optimize import linprog

from skinv import CertifiedInverse, PolynomialInverseApprox
from skinv.geometry import (
    ParametricFamily,
    family_certificate,
    largest_regular_box,
    region_certificate,
)

STOREYS = 8
AREAS = {"leg": 2.0, "brace": 0.5, "strut": 0.3}
STOREY = [(0, 2, "leg"), (1, 3, "leg"), (0, 3, "brace"), (1, 2, "brace"), (2, 3, "strut")]
BARS = [(2 * i + a, 2 * i + b, kind) for i in range(STOREYS) for a, b, kind in STOREY]
kinds = np.array([kind for _, _, kind in BARS])


def tower(width):
    """Return places of nodes, and rows b and n, lengths and areas of the bars."""
    nodes = np.array([(x, 2.0 * i) for i in range(STOREYS + 1) for x in (0.0, width)])
    along, across = np.zeros((2, len(BARS), 2 * len(nodes)))
    ends = np.array([(a, b) for a, b, _ in BARS])
    bars = nodes[ends[:, 1]] - nodes[ends[:, 0]]
    lengths = np.linalg.norm(bars, axis=1)
    for e, ((a, b), (x, y)) in enumerate(zip(ends, bars / lengths[:, None], strict=True)):
        along[e, [2 * a, 2 * a + 1, 2 * b, 2 * b + 1]] = -x, -y, x, y
        across[e, [2 * a, 2 * a + 1, 2 * b, 2 * b + 1]] = y, -x, -y, x
    return nodes, along[:, 4:], across[:, 4:], lengths, np.array([AREAS[kind] for kind in kinds])


def stiffness(width):
    """Return the stiffness of each kind of bar, and the geometric one of a unit load."""
    _, along, across, lengths, areas = tower(width)
    parts = [(along.T * (areas / lengths * (kinds == kind))) @ along for kind in AREAS]
    load = np.zeros(along.shape[1])
    load[[-3, -1]], load[-2] = -1.0, 0.1  # on the two nodes at the top, and some wind
    forces = areas / lengths * (along @ np.linalg.solve(sum(parts), load))
    return parts, (across.T * (forces / lengths)) @ across


parts, geometric = stiffness(2.0)
critical = 1 / scipy.linalg.eigh(-geometric, sum(parts), eigvals_only=True)[-1]
print(f"{len(geometric)} degrees of freedom; the nominal tower buckles at a load of {critical:.4f}")

# %%
# Two families
# ------------
# The first has four parameters: the areas of legs, braces and struts relative to the nominal ones,
# which are off by 10 %, and the load, (40 ± 10) % of the critical one. Its matrices are symmetric.
#
# The second has a jack in a brace at the bottom that pushes in proportion to the sway of the top,
# with a gain of 0 ± 0.1. A jack here and a sensor there make a matrix that is not symmetric.

sway = np.zeros(len(geometric))
sway[-4] = 1.0
jack = np.outer(tower(2.0)[1][3], sway)
nothing = np.zeros_like(geometric)
passive = ParametricFamily([nothing, *parts, critical * geometric])
active = ParametricFamily([nothing, *parts, critical * geometric, jack])
middle, half = np.array([1, 1, 1, 0.4, 0.0]), np.array([0.1, 0.1, 0.1, 0.1, 0.1])
cases = {"passive": (passive, middle[:4], half[:4]), "with a jack": (active, middle, half)}

for name, (family, p, r) in cases.items():
    start = time.perf_counter()
    found = family_certificate(family, p - r, p + r)
    seconds = time.perf_counter() - start
    print(f"{name}: certified {found.is_certified}, σ_min between {found.margin:.2e} and")
    print(f"  {found.margin_upper:.2e}, {found.n_boxes} boxes in {seconds:.2f} s")
    assert found.is_certified

# %%
# How large may the tolerances be?
# --------------------------------
# The same question for other proofs. What each can show is the largest factor for all tolerances:
#
# * a box around the matrix, whose entries vary as if each had a parameter of its own
#   (:func:`~skinv.geometry.region_certificate`): the entries of a stiffness matrix depend on each
#   other, as without supports it must be singular, and next to nothing is proven;
# * the first step of parametric interval methods, ρ(Σ rᵢ\|A(c)⁻¹Aᵢ\|) < 1;
# * successive constraints (Huynh, Rozza, Sen and Patera 2007) of reduced-basis methods: a linear
#   program for a lower bound of the coercivity constant α(p), here relative to the matrix in the
#   middle, with the one constraint that α is 1 there;
# * α(p) itself at all corners, which is the most that more constraints could give: it is concave in
#   p, and so is smallest at a corner.
#
# Of these only the first accounts for its rounding. What is possible at all is told by a search for
# singular matrices along lines from the middle, by eigenvalues.


def largest(proves, high=8.0):
    """Return the largest factor, by bisection."""
    low = 0.0
    for _ in range(20):
        factor = 0.5 * (low + high)
        low, high = (factor, high) if proves(factor) else (low, factor)
    return low


def first_singular(family, p, r, signs):
    """Return the smallest factor with a singular matrix that descent finds, and its parameters."""
    A, C = family(p), r[:, None, None] * family.coefficients[1:]
    found = np.inf, p
    for z in signs:
        for _ in range(6):
            towards = np.tensordot(z, C, 1)
            values = scipy.linalg.eigvals(-towards, A)
            real = values.real[np.abs(values.imag) < 1e-9 * np.abs(values)].max(initial=1e-9)
            found = min(found, (1 / real, p + z * r / real), key=lambda pair: pair[0])
            U, _, Vt = np.linalg.svd(A + towards / real)
            slope = np.einsum("i,kij,j->k", U[:, -1], C, Vt[-1])
            z = np.sign(slope * np.sign(slope @ z))
    return found


scales, limits, seconds = {}, {}, {}
for name, (family, p, r) in cases.items():
    A, C = family(p), r[:, None, None] * family.coefficients[1:]
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(p))))
    X = 0.5 * (A + A.T)
    terms = family.coefficients[1:]
    ranges = [scipy.linalg.eigh(S + S.T, 2 * X, eigvals_only=True)[[0, -1]] for S in terms]

    def coercive(factor, C=C, X=X, signs=signs):
        matrices = X + factor * np.tensordot(signs, 0.5 * (C + C.swapaxes(1, 2)), 1)
        return np.linalg.eigvalsh(matrices)[:, 0].min() > 0

    def constrained(factor, p=p, r=r, signs=signs, ranges=ranges):
        # The values of the terms' forms are in their ranges, and in the middle they add up to 1.
        corners = p + factor * r * signs
        return all(linprog(q, A_eq=p[None], b_eq=[1], bounds=ranges).fun > 0 for q in corners)

    start = time.perf_counter()
    grown = largest_regular_box(family, p - r, p + r)
    seconds[name] = time.perf_counter() - start
    assert grown.status == "converged"
    limits[name], worst = first_singular(family, p, r, signs)
    reach = np.abs(np.linalg.inv(A) @ C).sum(axis=0)
    scales[name] = {
        "box around the matrix": largest(
            lambda t, A=A, C=C: region_certificate(A, t * np.abs(C).sum(axis=0)).is_certified, 1.0
        ),
        "parametric interval": 1 / np.abs(np.linalg.eigvals(reach)).max(),
        "successive constraints": largest(constrained),
        "coercivity at all corners": largest(coercive),
        "largest_regular_box": grown.scale,
    }
    print(f"\n{name}: singular at {limits[name]:.3f}, {grown.n_boxes} boxes, {seconds[name]:.2f} s")
    for method, scale in scales[name].items():
        print(f"  {method:<26}{scale:7.3f}  {scale / limits[name]:4.0%}")
    assert scales[name]["largest_regular_box"] > 0.98 * limits[name]
assert scales["passive"]["coercivity at all corners"] > 0.99 * limits["passive"]
assert scales["with a jack"]["coercivity at all corners"] < 0.3 * limits["with a jack"]

# %%
# A symmetric family is definite in the whole box if it is at its corners, and that is all there is
# to know. With the jack the symmetric part is indefinite long before anything is singular. The
# proof looks for a matrix T such that the symmetric part of T·A(p) is positive at all corners, and
# where there is one the whole box is done at once.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 5.5), layout="constrained", width_ratios=(1, 2.6)
)
nodes = tower(2.0)[0]
mode = np.zeros(2 * len(nodes))
mode[4:] = np.linalg.svd(active(worst))[2][-1]
moved = nodes + 1.2 * (mode / np.abs(mode).max()).reshape(-1, 2)
COLORS = {"leg": "#0072B2", "brace": "#009E73", "strut": "#CC79A7"}
for e, (a, b, kind) in enumerate(BARS):
    left.plot(*nodes[[a, b]].T, color=COLORS[kind], lw=4 if e == 3 else 1.5)
    left.plot(*moved[[a, b]].T, color="0.7", lw=1, zorder=0)
left.annotate("jack", nodes[[1, 2]].mean(axis=0), (-1.9, 0.2), arrowprops={"arrowstyle": "->"})
left.annotate("sensor", nodes[-2], (-2.1, 16.8), arrowprops={"arrowstyle": "->"})
left.set(xlim=(-2.3, 4.3), ylim=(-0.5, 17.5), aspect="equal", title="The tower, and how it fails")
left.axis("off")
methods = list(scales["passive"])
for k, (name, color) in enumerate((("passive", "#0072B2"), ("with a jack", "#D55E00"))):
    shares = [scales[name][method] / limits[name] for method in methods]
    places = np.arange(len(methods)) + 0.38 * (k - 0.5)
    right.barh(places, shares, 0.36, color=color, label=name)
    for place, share in zip(places, shares, strict=True):
        text = f"{share:.0%}" if share > 0.01 else f"{share:.1%}"
        place = (1 if share > 0.95 else share, place)
        right.annotate(text, place, (4, 0), textcoords="offset points", va="center")
right.axvline(1, color="k", lw=1)
right.set(xlim=(0, 1.12), yticks=range(len(methods)), yticklabels=methods)
right.set(xlabel="tolerances that are proven, of those with a singular matrix", ylim=(4.6, -0.6))
_ = right.legend(loc="upper right", bbox_to_anchor=(0.88, 1), title="tower")

# %%
# The family at work
# ------------------
# A family is a function of parameters, so that it can be the ``family`` of a
# :class:`~skinv.CertifiedInverse`, whose predictions take parameters and no matrices. In a box that
# is certified nobody will be told that a matrix is singular.

box = largest_regular_box(active, middle - half, middle + half).certificate
rng = np.random.default_rng(0)
P = rng.uniform(middle - half, middle + half, (2000, 5))
model = CertifiedInverse(PolynomialInverseApprox(), family=active).fit(P[:1000])
status = model.report(P[1000:]).status
counts = {str(name): int((status == name).sum()) for name in np.unique(status)}
print(f"\nof 1000 towers in the box: {counts}")
assert "singular" not in counts

# %%
# If there is no matrix for each parameter
# ----------------------------------------
# Lengths, angles and temperatures often enter in other ways, by a function that cannot be looked
# into. :meth:`~skinv.geometry.ParametricFamily.from_function` fits a polynomial to it, and proofs
# allow for twice of what it leaves at other samples. They rest on that, and say so: ``assumed``.


def of_width(p):
    """Return the stiffness of towers of some widths, under some loads."""
    found = []
    for width, load in p:
        parts, geometric = stiffness(width)
        found.append(sum(parts) + load * critical * geometric)
    return np.array(found)


lower, upper = [1.8, 0.0], [2.2, 0.6]
for degree in (2, 4, 6):
    fitted = ParametricFamily.from_function(of_width, lower, upper, degree)
    found = family_certificate(fitted, lower, upper)
    print(
        f"degree {degree}: off by {fitted.deviation.max():.0e} at most, margin {found.margin:.2e}"
    )
assert found.is_certified
assert found.assumed
