"""The Yelp Open Dataset: JSON lines."""

from ..source import Log, Owner, Source, items_file

YELP = Source(
    name="yelp",
    about="yelp_academic_dataset_review.json; metadata: yelp_academic_dataset_business.json",
    log=Log(
        {"reviewer": ("user_id",), "item": ("business_id",), "rating": ("stars",), "time": ("date",)},
        files=("*review.json",),
    ),
    owners={"user": Owner("reviewer")},
    rating="rating",
    metadata=items_file(("business_id",), ("name",), files=("*business.json",)),
    presets={
        "s3rec": {
            "start": "2019-01-01 00:00:00",
            "end": "2019-12-31 00:00:00",
            "user_core": 5,
            "item_core": 5,
            "repeats": "keep",
            "ties": "file",
        }
    },
)
