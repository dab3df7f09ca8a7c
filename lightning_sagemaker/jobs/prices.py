"""On-demand prices of training instances, from AWS's price API."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HOME = "us-east-1"  # the API is in few regions, and tells of all
# Nobody waits long for a price: from a VPC without a way out the API is never reached.
_PATIENCE = {"connect_timeout": 5, "read_timeout": 10, "retries": {"mode": "standard", "total_max_attempts": 2}}


def prices(instance_types: Iterable[str], session: Any) -> tuple[dict[str, float], str]:
    """On-demand price per hour of training on each type, in USD, if the session's region has one.

    Nothing is guessed: a price that may not be asked for, is not there, or is there twice, is unknown.

    Args:
        instance_types: Such as ``ml.p4d.24xlarge``.
        session: Session of boto3.

    Returns:
        The prices, and why some are missing.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    found: dict[str, float] = {}
    if session.region_name.startswith(("cn-", "us-gov-")):
        return found, f"the price API does not list {session.region_name}"
    try:
        api = session.client("pricing", region_name=_HOME, config=Config(**_PATIENCE))
        for kind in instance_types:
            offers = set(_offers(api, kind, session.region_name))
            if len(offers) != 1:
                return found, f"the price API has {len(offers) or 'no'} prices of {kind} in {session.region_name}"
            found[kind] = offers.pop()
    except (BotoCoreError, ClientError) as error:
        return found, f"pricing:GetProducts, {error}"
    return found, ""


def _offers(api: Any, kind: str, region: str) -> Iterator[float]:
    wanted = {"regionCode": region, "instanceName": kind}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    for page in api.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters):
        for product in map(json.loads, page["PriceList"]):
            # Notebooks and endpoints have prices of their own; training's usage type is such as USE1-Train:ml.m5.large.
            if re.search(rf"(?:^|-)Train:{re.escape(kind)}$", product["product"]["attributes"].get("usagetype", "")):
                for term in product.get("terms", {}).get("OnDemand", {}).values():
                    for dimension in term["priceDimensions"].values():
                        if dimension["unit"] == "Hrs" and "USD" in dimension["pricePerUnit"]:
                            yield float(dimension["pricePerUnit"]["USD"])
