"""UCI Online Retail: invoice lines as a spreadsheet or CSV."""

from ..source import Log, Owner, Source

_CANCELLED = {"cancelled invoices": "upper(invoice[1]) = 'C'"}

ONLINE_RETAIL = Source(
    name="online-retail",
    about="'Online Retail.xlsx' or CSV; --owner customer or invoice",
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
        # spreadsheets store customer ids as floating-point numbers
        "customer": Owner(
            r"regexp_replace(customer, '\.0+$', '')", {**_CANCELLED, "rows without a customer": "customer IS NULL"}
        ),
        "invoice": Owner("invoice", _CANCELLED),
    },
    title="title",
    time_formats=("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S"),
)
