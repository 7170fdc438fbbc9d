"""Least squares as what it is: a table of coefficients that the data are multiplied with.

Having the coefficients rather than the fit, a caller knows the error of an estimate from the errors of its data, whatever
those are, and can apply the same reading to an exact curve.
"""

from __future__ import annotations

import numpy as np

from rsverify.errors import InputError


def weighted(columns: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """C with estimates C @ y of weighted least squares, for data with independent errors of the given sizes.

    Shapes: columns (data, parameters), errors (data,); C (parameters, data).
    """
    weights = 1 / np.asarray(errors, dtype=np.float64)
    return np.linalg.pinv(np.asarray(columns, dtype=np.float64) * weights[:, None], rcond=1e-14) * weights


def generalised(columns: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """C with estimates C @ y of generalised least squares, for data whose errors have this covariance.

    Shapes: columns (data, parameters), covariance (data, data); C (parameters, data).
    Raises: InputError for a covariance that is singular or not symmetric: fewer draws than data make it so.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    if not np.allclose(covariance, covariance.T, rtol=1e-10, atol=0):
        raise InputError("covariance is not symmetric")
    scale = np.sqrt(np.diag(covariance))
    try:
        root = np.linalg.cholesky(covariance / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        raise InputError(
            f"covariance of {len(scale)} data is singular: it was estimated from too few draws, or two data are the same; "
            "take more draws than data, or independent draws"
        ) from None
    whitened = np.linalg.solve(root, np.asarray(columns, dtype=np.float64) / scale[:, None])
    return np.linalg.solve(root.T, np.linalg.pinv(whitened, rcond=1e-14).T).T / scale


def growth_curve_freedom(draws: int, data: int, parameters: int) -> tuple[float, float]:
    """(degrees of freedom, factor on the error) of a generalised fit whose covariance comes from the same draws.

    In words: the surplus data serve as covariates of the parameters, and each costs a draw: Student's law has
    draws - 1 - (data - parameters) degrees, and the error grows as if from so many fewer draws.
    Source: Rao 1965, Biometrika 52 (the growth-curve model): not seen; derived as a regression on covariates, tested by simulation.
    """
    spare = data - parameters
    freedom = draws - 1 - spare
    if freedom < 2:
        raise InputError(f"draws={draws} for {data} ranks: a covariance between ranks needs at least {data + 3} draws")
    return float(freedom), float(np.sqrt((draws - 1) / freedom * (1 + spare / max(1.0, freedom - 1))))
