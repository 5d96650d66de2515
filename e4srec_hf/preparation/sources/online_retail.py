"""UCI Online Retail: a spreadsheet of invoice lines, or the same as CSV."""

from ..source import Log, Owner, Source

_CANCELLED = {"cancelled invoices": "upper(invoice[1]) = 'C'"}

ONLINE_RETAIL = Source(
    name="online-retail",
    about="'Online Retail.xlsx', or the same as CSV; --owner customer or invoice",
    log=Log(
        {
            "invoice": ("InvoiceNo", "Invoice"),
            "item": ("StockCode",),
            "title": ("Description",),
            "time": ("InvoiceDate",),
            "customer": ("CustomerID", "Customer ID"),
        },
        fallback_encoding="cp1252",
    ),
    owners={
        # a spreadsheet keeps the customers as floating-point numbers
        "customer": Owner(
            r"regexp_replace(customer, '\.0+$', '')", {**_CANCELLED, "rows without a customer": "customer IS NULL"}
        ),
        "invoice": Owner("invoice", _CANCELLED),
    },
    title="title",
    time_formats=("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S"),
)
