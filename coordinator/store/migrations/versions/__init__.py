"""One module a revision, numbered in order; a revision that was released is never edited."""
