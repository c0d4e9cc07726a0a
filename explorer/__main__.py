"""`python -m explorer` is the command `explore`."""

from explorer.cli import main

main()
