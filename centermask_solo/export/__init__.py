"""Write models as files of other runtimes, and check that they predict the same there."""
