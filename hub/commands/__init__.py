"""The commands of `linetally-hub`, one module for each kind; `hub.__main__` puts them together."""
