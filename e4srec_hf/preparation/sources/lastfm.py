"""LastFM: the tags of HetRec 2011, and LastFM-1K, the listening histories of a thousand users."""

from dataclasses import replace

from ..source import WRONG_FILE, Log, Owner, Source, items_file

LASTFM_HETREC = Source(
    name="lastfm-hetrec",
    about="user_taggedartists-timestamps.dat; metadata: artists.dat",
    log=Log(
        {"listener": ("userID",), "item": ("artistID",), "time": ("timestamp",)},
        headerless=(("listener", "item", "", "time"),),
        separator="\t",
        quoted=False,
        fallback_encoding="latin-1",
        files=("user_taggedartists-timestamps.dat",),
        advice=f"user_taggedartists.dat, which has days, is of the source lastfm-hetrec-days. {WRONG_FILE}",
    ),
    owners={"user": Owner("listener")},
    time_unit="ms",
    metadata=items_file(
        ("id",),
        ("name",),
        headerless=(("item", "title", "", ""),),
        separator="\t",
        quoted=False,
        fallback_encoding="latin-1",
        files=("artists.dat",),
    ),
    # a user tags an artist many times: only the first row of the file counts
    presets={
        "s3rec": {
            "repeats": "first-row",
            "negative_times": "keep",
            "user_core": 5,
            "item_core": 5,
            "ties": "file",
        }
    },
)

LASTFM_HETREC_DAYS = replace(
    LASTFM_HETREC,
    name="lastfm-hetrec-days",
    about="user_taggedartists.dat: the same with days instead of times; metadata: artists.dat",
    log=Log(
        {
            "listener": ("userID",),
            "item": ("artistID",),
            "time_day": ("day",),
            "time_month": ("month",),
            "time_year": ("year",),
        },
        headerless=(("listener", "item", "", "time_day", "time_month", "time_year"),),
        separator="\t",
        quoted=False,
        fallback_encoding="latin-1",
        files=("user_taggedartists.dat",),
    ),
    time="time_year || '-' || time_month || '-' || time_day",
    repeats="distinct",  # the tags that a user gives an artist on a day are one event
)

LASTFM_1K = Source(
    name="lastfm-1k",
    about="userid-timestamp-artid-artname-traid-traname.tsv: listens to artists",
    log=Log(
        {
            "listener": ("userid",),
            "time": ("timestamp",),
            "artist_id": ("artid", "musicbrainz-artist-id"),
            "artist_name": ("artname", "artist-name"),
        },
        headerless=(("listener", "time", "artist_id", "artist_name", "", ""),),
        separator="\t",
        quoted=False,
        fallback_encoding="latin-1",
        files=("userid-timestamp-*",),
    ),
    owners={"user": Owner("listener")},
    item="coalesce(artist_id, artist_name)",  # not every artist has a MusicBrainz id
    title="artist_name",
)
