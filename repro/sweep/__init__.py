"""Sweeps: which runs are left, where they are trained, and how they end."""
