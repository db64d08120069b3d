"""Stored families of real matrices: power-flow Jacobians of a grid, Jacobians of a robot arm."""

from importlib import resources
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from .._arrays.results import Dataset
from ._packed import from_planes, matrices_of

_Case = Literal["case6ww", "case9", "case30"]
_POWER_FLOW_CASES = get_args(_Case)

_Array = NDArray[np.float64]


def _load(name: str, return_X_y: bool) -> Any:
    """Read ``data/<name>.npz``, invert its matrices and describe them by ``descr/<name>.rst``."""
    folder = resources.files("skinv.datasets")
    filename = f"{name}.npz"
    with (folder / "data" / filename).open("rb") as file, np.load(file) as arrays:
        center: _Array = arrays["nominal"]
        matrices = matrices_of(arrays, center)
        parameters: _Array = from_planes(arrays["parameters"])
        parameter_names, rows, columns = (
            arrays[key].tolist() for key in ("parameter_names", "row_names", "column_names")
        )

    data = matrices.reshape(len(matrices), -1)
    target = np.linalg.inv(matrices).reshape(data.shape)
    if return_X_y:
        return data, target
    return Dataset(
        data=data,
        target=target,
        matrices=data.reshape(matrices.shape),
        parameters=parameters,
        parameter_names=parameter_names,
        center=center,
        feature_names=[f"{row}/{column}" for row in rows for column in columns],
        # The inverse takes what the rows stand for back to what the columns stand for.
        target_names=[f"{column}/{row}" for column in columns for row in rows],
        DESCR=(folder / "descr" / f"{name}.rst").read_text(encoding="utf-8"),
        filename=filename,
        data_module="skinv.datasets.data",
    )


@overload
def load_power_flow(case: _Case = ..., *, return_X_y: Literal[True]) -> tuple[_Array, _Array]: ...
@overload
def load_power_flow(case: _Case = ..., *, return_X_y: Literal[False] = ...) -> Dataset: ...
def load_power_flow(
    case: _Case = "case9", *, return_X_y: bool = False
) -> Dataset | tuple[_Array, _Array]:
    """Load power-flow Jacobians of one grid under varying loads, with their inverses.

    The matrices are those that Newton's method inverts to find the voltages of a grid, taken at
    the solution. In the small grids every load's active and reactive power is scaled at random by
    0.8 to 1.2; in the 30-bus grid one factor of 0.7 to 1.2 scales all loads of an area, so the
    matrices are a function of three numbers.

    Parameters
    ----------
    case : {"case6ww", "case9", "case30"}, default="case9"
        The grid: the 6-bus example of Wood and Wollenberg (n = 8), the 9-bus case (n = 14) or the
        IEEE 30-bus system in the version of MATPOWER's case30 (n = 53).
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with n_samples = 1000 (case30: 500) and these attributes:

        data : ndarray of shape (n_samples, n * n), float64
            The matrices, each flattened row-major, in per unit and radians.
        target : ndarray of shape (n_samples, n * n), float64
            Their inverses, computed by :func:`numpy.linalg.inv` at load.
        matrices : ndarray of shape (n_samples, n, n)
            View of ``data``.
        parameters : ndarray of shape (n_samples, 6), case30: (n_samples, 3)
            The factors by which the loads were scaled.
        parameter_names : list of 6 str, case30: 3
            For instance "P5_factor": active power of the load at bus 5; or "area1_factor": active
            and reactive power of all loads in area 1.
        center : ndarray of shape (n, n)
            The matrix at the case's own loads (all factors 1).
        feature_names : list of n * n str
            For instance "dQ5/dV4". Buses are numbered as in the case, from 1.
        target_names : list of n * n str
            For instance "dV4/dQ5".
        DESCR : str
            Full description: origin, ranges, references, licences.
        filename, data_module : str
            The stored file and the package that holds it.

    (data, target) : tuple if ``return_X_y`` is True

    Raises
    ------
    ValueError
        If ``case`` is not one of those above.

    Examples
    --------
    >>> from skinv.datasets import load_power_flow
    >>> grid = load_power_flow("case6ww")
    >>> grid.data.shape, grid.matrices.shape, grid.parameters.shape
    ((1000, 64), (1000, 8, 8), (1000, 6))
    >>> grid.feature_names[:3]
    ['dP2/dtheta2', 'dP2/dtheta3', 'dP2/dtheta4']
    >>> X, y = load_power_flow("case9", return_X_y=True)
    >>> X.shape, y.shape
    ((1000, 196), (1000, 196))
    >>> grid = load_power_flow("case30")
    >>> grid.matrices.shape, grid.parameters.shape
    ((500, 53, 53), (500, 3))
    >>> grid.parameter_names
    ['area1_factor', 'area2_factor', 'area3_factor']
    """
    if case not in _POWER_FLOW_CASES:
        raise ValueError(f"Got case={case!r}, but it must be one of {_POWER_FLOW_CASES}.")
    return _load(f"power_flow_{case}", return_X_y)


@overload
def load_robot_arm(*, return_X_y: Literal[True]) -> tuple[_Array, _Array]: ...
@overload
def load_robot_arm(*, return_X_y: Literal[False] = ...) -> Dataset: ...
def load_robot_arm(*, return_X_y: bool = False) -> Dataset | tuple[_Array, _Array]:
    """Load Jacobians of a Puma 560 robot arm around one pose, with their inverses.

    A Jacobian takes joint velocities to the velocity of the hand; its inverse is what moves the
    hand along a given path. Each joint is turned by -0.1 to 0.1 rad from the nominal pose.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with n_samples = 1000, n = 6 and the attributes that
        :func:`load_power_flow` describes; among them

        data : ndarray of shape (n_samples, n * n), float64
            The matrices, each flattened row-major, in metres and radians.
        parameters : ndarray of shape (n_samples, 6)
            The joint angles in rad.
        parameter_names : list of 6 str
            "q1" to "q6".
        center : ndarray of shape (n, n)
            The matrix at the nominal pose.
        feature_names, target_names : list of n * n str
            For instance "dx/dq2" (translation along x) and "drx/dq2" (rotation about x); "dq2/dx".

    (data, target) : tuple if ``return_X_y`` is True

    Examples
    --------
    >>> from skinv.datasets import load_robot_arm
    >>> arm = load_robot_arm()
    >>> arm.data.shape, arm.matrices.shape
    ((1000, 36), (1000, 6, 6))
    >>> arm.center[1, :3].round(4).tolist()
    [0.5963, 0.0, 0.0]
    >>> arm.target_names[:2]
    ['dq1/dx', 'dq1/dy']
    """
    return _load("robot_arm_puma560", return_X_y)
