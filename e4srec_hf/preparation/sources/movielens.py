"""MovieLens: `ratings.dat` with double colons, or `ratings.csv`."""

from ..source import Log, Owner, Source

_MOVIES = {"item": ("movieId", "MovieID"), "title": ("title",)}

MOVIELENS = Source(
    name="movielens",
    about="ratings.dat, u.data or ratings.csv; metadata: movies.dat or movies.csv",
    log=Log(
        {"viewer": ("userId", "UserID"), "item": ("movieId", "MovieID"), "rating": ("rating",), "time": ("timestamp",)},
        headerless=("viewer", "item", "rating", "time"),
        separator=None,
        fallback_encoding="latin-1",
        files=("ratings.dat", "ratings.csv", "u.data"),
    ),
    owners={"user": Owner("viewer")},
    rating="rating",
    metadata=Log(
        _MOVIES,
        headerless=("item", "title", ""),
        separator=None,
        fallback_encoding="latin-1",
        files=("movies.dat", "movies.csv", "u.item"),
    ),
)
