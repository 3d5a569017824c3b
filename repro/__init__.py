"""Reproduction of Tables 1 and 2 of the supplement to *Bias Loss for Mobile Neural Networks* (ICCV 2021)."""

__version__ = "0.1.0"
