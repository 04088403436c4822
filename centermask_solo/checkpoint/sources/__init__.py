"""Name tables of other layouts: pure functions from the names of a file to the names of the models here."""
