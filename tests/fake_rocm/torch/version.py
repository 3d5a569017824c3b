from typing import Optional

__version__ = "2.15.0+rocm7.2"
cuda: Optional[str] = None  # noqa: UP045 - as torch writes it
hip: Optional[str] = "7.2.53211"  # noqa: UP045
