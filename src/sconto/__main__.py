"""`python -m sconto` is the command `sconto`."""

from sconto.cli import main

main()
