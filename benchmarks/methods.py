"""What families.py measures: {name: (estimator, whether it needs the inverses)}."""

from math import comb

from scipy.sparse.linalg import splu
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skinv import LinearInverseApprox, NeuralInverseRegressor, PolynomialInverseApprox

MOST_TERMS = 800  # past that a fit takes minutes, and a prediction longer than any network


def linear_learners():
    """Return the series of orders 1 to 3 about the mean."""
    return {f"series {k}": (LinearInverseApprox(order=k), False) for k in (1, 2, 3)}


def skinv_learners(seed):
    """Return the package's polynomials and network, as they are by default."""
    return {
        "PolynomialInverseApprox": (PolynomialInverseApprox(), False),
        "PolynomialInverseApprox, 64 terms": (PolynomialInverseApprox(max_terms=64), False),
        "NeuralInverseRegressor": (NeuralInverseRegressor(random_state=seed), False),
    }


def learners(n_features, seed):
    """Return what learns a family of few directions: the package's, and a search of pipelines."""
    pipeline = make_pipeline(PCA(random_state=seed), PolynomialFeatures(), LinearRegression())
    grid = {
        "pca__n_components": sorted({min(k, n_features) for k in (6, 10, 12)}),
        "polynomialfeatures__degree": [1, 2, 3],
    }
    search = GridSearchCV(pipeline, grid, cv=5, scoring="neg_mean_absolute_error")
    return skinv_learners(seed) | {"scikit-learn pipeline": (search, True)}


def polynomials(n, m, seed):
    """Return what learns a box: the package's, and polynomials of all entries by degree."""
    found = skinv_learners(seed)
    for degree in range(2, 9):
        terms = comb(n * n + degree, degree)
        if terms > min(MOST_TERMS, m // 4):
            break
        scaled = StandardScaler(), PolynomialFeatures(degree), LinearRegression()
        found |= {
            f"polynomial, degree {degree}": (
                PolynomialInverseApprox(degree=degree, n_components=n * n, max_terms=terms),
                False,
            ),
            f"scikit-learn, degree {degree}": (make_pipeline(*scaled), True),
        }
    return found


def splu_and_solve(matrices, b):
    """Factorise sparse matrices and solve one system with each."""
    return [splu(A).solve(b) for A in matrices]
