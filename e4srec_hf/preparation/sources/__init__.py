"""The kinds of raw logs. To add one, write a module here and list its source below."""

from ..source import Source
from .amazon import AMAZON_2014, AMAZON_2018, AMAZON_2023
from .lastfm import LASTFM_1K, LASTFM_HETREC, LASTFM_HETREC_DAYS
from .movielens import MOVIELENS
from .online_retail import ONLINE_RETAIL
from .table import SQL, TABLE
from .text import TEXT
from .yelp import YELP

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        AMAZON_2014,
        AMAZON_2018,
        AMAZON_2023,
        YELP,
        LASTFM_HETREC,
        LASTFM_HETREC_DAYS,
        LASTFM_1K,
        ONLINE_RETAIL,
        MOVIELENS,
        TEXT,
        TABLE,
        SQL,
    )
}
