"""pyarrow's and the file system's exceptions into ours, once; without their messages, which may quote values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from paritree.core.errors import SourceError


@contextmanager
def translated(path: str, what: str) -> Iterator[None]:
    """Raise SourceError for any error of pyarrow or of the file system inside; ``what`` names the format."""
    try:
        yield
    except pa.ArrowMemoryError:
        raise SourceError(f"{path}: out of memory", next_step="give the agent more memory or fewer workers") from None
    except (pa.ArrowException, UnicodeError) as error:
        raise SourceError(
            f"{path} cannot be read as {what} ({type(error).__name__})", next_step="check that the file is whole"
        ) from None
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror or 'cannot be read as ' + what}", next_step="check the file and its permissions"
        ) from None
