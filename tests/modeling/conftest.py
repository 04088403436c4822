import pytest

from tests.modeling.models import SYSTEMS


@pytest.fixture(params=SYSTEMS.values(), ids=SYSTEMS.keys())
def system(request):
    """One system after the other: an entry of the table of small models."""
    return request.param
