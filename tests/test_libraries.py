"""What the guide says of libraries of arrays is so."""

import pytest
from libraries import PAGE, table


@pytest.mark.filterwarnings("ignore::UserWarning")  # no feature names; a network not trained
def test_the_table_of_the_guide():
    """Each cell, by asking; `python tests/libraries.py --write` makes it anew."""
    assert table() in PAGE.read_text(encoding="utf-8")
