"""Runs on this machine: a process each, watched."""
