"""The compiled core: arrays and bytes in, arrays and bytes out; knows nothing of the `fastserve` package."""
