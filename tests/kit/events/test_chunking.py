"""Answers in parts: nothing is lost, and each fits into an event."""

import json

from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.events.chunking import PART_BYTES, PART_DOCUMENTS, parts, size_inside


@given(st.lists(st.text(max_size=30) | st.integers(0, 120_000).map(lambda size: '"' * size), max_size=250))
def test_parts_hold_everything_in_order_and_none_is_too_large(texts: list[str]) -> None:
    documents = [json.dumps(text) for text in texts]
    found = list(parts(documents))
    loaded = [json.loads(part) for part in found]

    assert [text for part in loaded for text in part] == texts
    assert len(found) >= 1
    for part, content in zip(found, loaded, strict=True):
        assert len(content) <= PART_DOCUMENTS
        assert len(content) <= 1 or size_inside(part) <= PART_BYTES + 2
    assert found == ["[]"] or all(loaded)
