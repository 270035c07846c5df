"""The pure core: no socket, file, clock, thread, asyncio, Dask, gRPC or driver is imported below this package."""
