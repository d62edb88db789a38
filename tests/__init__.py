"""The tests, laid out like src/rein; a package so that they can share helpers: `from tests.helpers import ...`."""
