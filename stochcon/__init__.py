"""The public face: the `stochcon` command line and the typed `Client`."""
