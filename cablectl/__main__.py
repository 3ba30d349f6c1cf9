"""`python -m cablectl` is the same as `cablectl`."""

from cablectl.cli import main

if __name__ == "__main__":
    main()
