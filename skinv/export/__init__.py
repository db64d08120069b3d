"""Fitted models for other runtimes: torch modules and ONNX files."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._module import to_module
    from ._onnx import to_onnx
__all__ = ["to_module", "to_onnx"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import _onnx  # needs torch

        return getattr(_onnx, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
