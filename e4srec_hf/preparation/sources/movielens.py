"""MovieLens: `ratings.dat` with double colons, or `ratings.csv`."""

from ..source import Log, Owner, Source, items_file

#: `movies.dat` has three fields; `u.item` of MovieLens-100K has dates, an address and the flags of 19 genres too.
_ITEMS = (("item", "title", ""), ("item", "title", *[""] * 22))

MOVIELENS = Source(
    name="movielens",
    about="ratings.dat, u.data or ratings.csv; metadata: movies.dat, u.item or movies.csv",
    log=Log(
        {"viewer": ("userId", "UserID"), "item": ("movieId", "MovieID"), "rating": ("rating",), "time": ("timestamp",)},
        headerless=(("viewer", "item", "rating", "time"),),
        separator=None,
        fallback_encoding="latin-1",
        files=("ratings.dat", "ratings.csv", "u.data"),
    ),
    owners={"user": Owner("viewer")},
    rating="rating",
    metadata=items_file(
        ("movieId", "MovieID"),
        ("title",),
        headerless=_ITEMS,
        separator=None,
        fallback_encoding="latin-1",
        files=("movies.dat", "movies.csv", "u.item"),
    ),
)
