"""The plots, one file each, after scikit-learn's displays: data in, `plot` draws, `ax` optional."""
