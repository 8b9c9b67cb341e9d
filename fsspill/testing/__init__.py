"""Tools for tests of fsspill and of other storage. Importing this package imports nothing."""
