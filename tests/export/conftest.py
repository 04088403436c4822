import pytest

pytest.register_assert_rewrite("tests.export.end_to_end")  # of what test files inherit from it
