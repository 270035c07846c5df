"""Compiled digests: numba kernels with the bytes of the plain digester. numba compiles them, once on a machine."""
