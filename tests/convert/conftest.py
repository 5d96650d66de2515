"""The reference's files, for the tests of the conversion."""

from tests.convert.the_reference import files, reference, run_import, sequences

__all__ = ["files", "reference", "run_import", "sequences"]
