"""Progress bars, on stderr, by tqdm."""

from contextlib import AbstractContextManager
from typing import Any


class _Off(AbstractContextManager):
    """The bar that is not shown."""

    def __exit__(self, *error: Any) -> None:
        pass

    def update(self, *given: Any, **named: Any) -> None:
        """Do nothing."""

    set_postfix_str = close = update


_OFF = _Off()


def progress(total: int, description: str, unit: str, verbose: Any) -> Any:
    """Return a progress bar, or what takes its place where none is wanted and costs nothing."""
    if not verbose:
        return _OFF
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=description, unit=f" {unit}")
