"""Compiled digests: numba kernels with the bytes of the plain digester. Importing this package imports no numba."""
