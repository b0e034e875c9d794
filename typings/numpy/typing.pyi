from typing import Any, TypeAlias, TypeVar

from numpy import dtype, ndarray

_Element = TypeVar("_Element", bound=Any)

ArrayLike: TypeAlias = Any
DTypeLike: TypeAlias = Any
NDArray: TypeAlias = ndarray[Any, dtype[_Element]]
