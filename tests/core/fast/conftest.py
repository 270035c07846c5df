"""The compiled digester beside the plain one: fixtures that make both digest the same batch and compare everything."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from paritree.core.digest import DatasetKeys
from paritree.core.digester import DigestBatch, Digester, PlainDigester
from paritree.core.errors import InvariantBroken
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import Profile

MASTER_KEY = bytes(range(32))


class Compared:
    """Digests a batch both ways. Random digests come from a counter, so that they are equal too."""

    def __call__(self, profile: Profile, batch: pa.RecordBatch) -> DigestBatch | None:
        """The digests, which are the same both ways; None where both refuse the batch as a connector's mistake."""
        plain = self._outcome(PlainDigester, profile, batch)
        compiled = self._outcome(CompiledDigester, profile, batch)
        if isinstance(plain, InvariantBroken) or isinstance(compiled, InvariantBroken):
            assert str(plain) == str(compiled)
            return None
        assert compiled.dead == plain.dead
        assert compiled.key_digests.dtype == np.uint8
        assert compiled.key_digests.shape == plain.key_digests.shape
        assert np.array_equal(compiled.key_digests, plain.key_digests)
        assert np.array_equal(compiled.row_digests, plain.row_digests)
        assert compiled.locators.type == pa.large_binary()
        compiled.locators.validate(full=True)
        assert compiled.locators.equals(plain.locators)
        return compiled

    @staticmethod
    def _outcome(
        make: Callable[..., Digester], profile: Profile, batch: pa.RecordBatch
    ) -> DigestBatch | InvariantBroken:
        counter = itertools.count()
        digester = make(
            profile, DatasetKeys.of(MASTER_KEY, profile.dataset), lambda size: next(counter).to_bytes(size, "big")
        )
        try:
            return digester.digest(batch)
        except InvariantBroken as error:
            return error


@pytest.fixture(scope="session")
def compared() -> Compared:
    return Compared()
