"""Complex matrices as real ones, and the warning about arrays that could be one matrix."""

from ._arrays.embedding import embed_complex, extract_complex
from ._arrays.shapes import AmbiguousShapeWarning

__all__ = ["AmbiguousShapeWarning", "embed_complex", "extract_complex"]


def __dir__() -> list[str]:
    return __all__
