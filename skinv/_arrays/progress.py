"""Progress bars, on stderr, by tqdm."""

from typing import Any


class _Off:
    """The bar that is not shown."""

    def __enter__(self) -> "_Off":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def update(self, n: int = 1) -> None:
        """Do nothing."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


_OFF = _Off()


def progress(total: int, description: str, unit: str, verbose: Any) -> Any:
    """Return a progress bar, or what takes its place where none is wanted and costs nothing."""
    if not verbose:
        return _OFF
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=description, unit=f" {unit}")
