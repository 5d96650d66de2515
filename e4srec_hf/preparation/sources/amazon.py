"""Amazon reviews of 2014, 2018 and 2023: JSON lines, or CSV files with only the ratings."""

from ..source import Log, Owner, Source, items_file

_REVIEWS = {"reviewer": ("reviewerID",), "item": ("asin",), "rating": ("overall",), "time": ("unixReviewTime",)}
#: The files of 2014 have the user first, those of 2018 the item.
_SHAPES = {"reviewer": r"A[0-9A-Z]{9,}|#oc-\w+", "item": r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]"}
_METADATA = items_file(("asin",), ("title",), files=("meta_*",))

#: S3-Rec keeps ratings above 0; all ratings here are.
_S3REC = {"s3rec": {"user_core": 5, "item_core": 5, "repeats": "keep", "ties": "file"}}

AMAZON_2014 = Source(
    name="amazon-2014",
    about="reviews_<Category>_5.json.gz or ratings_<Category>.csv; metadata: meta_<Category>.json.gz",
    log=Log(
        _REVIEWS, headerless=(("reviewer", "item", "rating", "time"),), shapes=_SHAPES, files=("reviews_*", "ratings_*")
    ),
    owners={"user": Owner("reviewer")},
    rating="rating",
    metadata=_METADATA,
    presets=_S3REC,
)

AMAZON_2018 = Source(
    name="amazon-2018",
    about="<Category>.json.gz, <Category>_5.json.gz or <Category>.csv; metadata: meta_<Category>.json.gz",
    log=Log(_REVIEWS, headerless=(("item", "reviewer", "rating", "time"),), shapes=_SHAPES),
    owners={"user": Owner("reviewer")},
    rating="rating",
    metadata=_METADATA,
    presets=_S3REC,
)

AMAZON_2023 = Source(
    name="amazon-2023",
    about="<Category>.csv or <Category>.jsonl of McAuley-Lab/Amazon-Reviews-2023; metadata: meta_<Category>.jsonl",
    log=Log(
        {"reviewer": ("user_id",), "item": ("parent_asin",), "rating": ("rating",), "time": ("timestamp",)},
        headerless=(("reviewer", "item", "rating", "time"),),
        shapes=_SHAPES,
    ),
    owners={"user": Owner("reviewer")},
    rating="rating",
    metadata=items_file(("parent_asin",), ("title",), files=("meta_*",)),
)
