"""``python -m callus``."""

from callus.cli import main

main()
