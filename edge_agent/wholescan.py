"""The scan that an index which stays begins with, kept beside it, so that another process goes on with it.

    index/durable/scan/progress    what is scanned, and the mark from which changes are told (see ``edge_agent.kept``)
    index/durable/scan/NNNNNN.run  the shards that were read

The rest is read in a later snapshot, so what was read and what will be are the table at no moment. What makes it right:

- The mark was made before anything was read, and the source keeps every change since. A row that was changed, moved or
  removed after its shard was read, or before its shard is read, has its key told again, and all rows of that key are
  read again, wherever they lie. A row that nobody changed lies where it lay, in one shard of the one plan: the table
  must still be in the same files (VACUUM FULL and CLUSTER move rows and tell nobody).
- Until all of that was taken over, the index may lack rows: it is in doubt, and nothing is called equal to it.
- Where nobody proves to have told everything, shards count only if rows cannot have left them: files that nobody
  wrote, token ranges.

Whatever else has become of the table or of the changes is :class:`RescanNeeded`: the scan begins anew, and says why.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgpack import packb, unpackb

from edge_agent.build import Copy
from edge_agent.connectors.changes import Mark
from edge_agent.index.changes import Reached
from edge_agent.index.state import Identity
from edge_agent.kept import Kept, discard, of_use
from edge_agent.wanted import Cancelled
from paritree.core.errors import SourceError
from paritree.core.profile import CANONICAL_VERSION

INTERRUPTED: Final = "the scan"
"""The place of the doubt until every change since an interrupted scan began was taken over."""
DOUBT: Final = "it was interrupted, and what changed meanwhile is not all taken over yet"


@dataclass(frozen=True, slots=True)
class WholeScan:
    """The scan of one index in ``folder``. ``follower`` is who follows the changes, "" where nobody tells them."""

    folder: Path
    copy: Copy
    index: Identity
    follower: str

    def begin(self, mark: Mark | None, letters_since_us: int) -> Kept:
        """A record of a new scan; what was left of another is removed. Raises SourceError for a full disk."""
        self.discard()
        request = b"" if mark is None else packb([mark.text, mark.state])
        return Kept.open(self.folder, self._identity, request, letters_since_us, self.copy.rest_key)

    def unfinished(self) -> Kept | None:
        """What was read of a scan of the same index by the same follower; None where there is nothing to go on with."""
        kept = Kept.read(self.folder, self.copy.rest_key)
        return kept if kept is not None and kept.identity == self._identity and kept.done else None

    def settle(self, reached: Reached) -> None:
        """There is an index that came so far: leave nothing of a scan that it was made from, or can do without."""
        kept = self.unfinished() if self.follower else None
        mark = None if kept is None else mark_of(kept)
        if mark is None or mark.state.encode() == reached.cursor:
            self.discard()

    def left(self, error: BaseException) -> bool:
        """The scan ended with this error: whether another is to go on with it. Else nothing is left of it."""
        rests = error.rests if isinstance(error, Cancelled) else isinstance(error, SourceError) and error.retryable
        if rests and self.unfinished() is not None:
            return True
        self.discard()
        return False

    @property
    def given_up(self) -> bool:
        """Whether there is one that nobody went on with for so long that the source need not keep changes for it."""
        return not of_use(self.folder) and self.unfinished() is not None

    def discard(self) -> None:
        """Leave nothing of it."""
        discard(self.folder)

    @property
    def _identity(self) -> bytes:
        """Changes with everything that makes its runs what they are, and with who follows."""
        parts = [getattr(self.index, name) for name in Identity.__dataclass_fields__]
        options = sorted(self.copy.source.options.items())
        return hashlib.blake2b(packb([*parts, options, self.follower]), digest_size=16).digest()


def mark_of(kept: Kept) -> Mark | None:
    """Where the changes go on after the scan; None where nobody tells them."""
    return Mark(*unpackb(kept.request)) if kept.request else None


def identity_of(copy: Copy) -> Identity:
    """What an index of this copy is of."""
    profile = copy.profile
    return Identity(
        dataset=profile.dataset,
        profile_id=profile.profile_id,
        canonical_version=CANONICAL_VERSION,
        binding_id=copy.binding.binding_id,
        key_id=copy.keys.key_id,
        source_id=hashlib.blake2b(copy.source.url.encode(), digest_size=16).digest(),
        ruled=any(profile.columns[name] != profile.columns[name].bare for name in profile.key),
    )
