"""A backend that is only in this folder: its cluster is a process on this machine."""
