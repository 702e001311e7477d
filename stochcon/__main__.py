"""`python -m stochcon`, for where the console script is not on the path."""

from stochcon.cli import main

main()
