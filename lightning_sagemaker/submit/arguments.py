"""A script's command line as hyperparameters, the only form in which SageMaker's launchers pass one on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTION = re.compile(r"(?P<dashes>--?)(?P<name>[A-Za-z][\w.\-]*)(?:=(?P<value>.*))?", re.DOTALL)
_LIMIT = 2500  # characters of a value; there may be 100 pairs (API reference, CreateTrainingJob)
_PAIRS = 100


def hyperparameters(arguments: Sequence[str], sdk: str) -> dict[str, str]:
    """Turn ``--epochs 30 --lr=0.1`` into ``{"epochs": "30", "lr": "0.1"}``.

    In the job each becomes ``--name value`` again, sorted by name with SDK v2: so there are no positional arguments, no
    options without a value, and none given twice.

    Args:
        arguments: What would follow ``train.py`` on the command line.
        sdk: ``v2`` or ``v3``.

    Raises:
        ValueError: An argument would not arrive, or not as it is.
    """
    pairs: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        given = rest.pop(0)
        option = _OPTION.fullmatch(given)
        if option is None:
            raise ValueError(
                f"Script argument {given!r} belongs to no option; a SageMaker job passes `--name value` pairs only."
                " HINT: make it an option; a subcommand (LightningCLI's `fit`) goes into a script of two lines that"
                " calls the CLI with `args=[...]`."
            )
        name, value = option["name"], option["value"]
        if value is None:
            if not rest or _OPTION.fullmatch(rest[0]):
                raise ValueError(
                    f"Script argument {given!r} has no value; a SageMaker job passes `--name value` pairs only."
                    f" HINT: let the option take one (`{given} true`), or pass a variable: --env NAME=VALUE."
                )
            value = rest.pop(0)
        # The toolkit writes names of one letter with one dash and all others with two, v3's drivers all with two.
        arrives = "-" if len(name) == 1 and sdk == "v2" else "--"
        if option["dashes"] != arrives:
            raise ValueError(
                f"Script argument `{option['dashes']}{name}` would arrive as `{arrives}{name}`. HINT: use the option's"
                " long name."
            )
        if name in pairs:
            raise ValueError(
                f"Script argument `--{name}` is given twice ({pairs[name]!r} and {value!r}); a SageMaker job passes"
                " each once. HINT: let the option take a list as one value, separated by commas."
            )
        _check(name, value, sdk)
        pairs[name] = value
    if len(pairs) > _PAIRS:
        raise ValueError(
            f"The script has {len(pairs)} arguments; SageMaker takes at most {_PAIRS} hyperparameters. HINT: put"
            " them into a file in the source folder."
        )
    return pairs


def _check(name: str, value: str, sdk: str) -> None:
    if name.startswith("sagemaker_"):
        raise ValueError(
            f"Script argument `--{name}` has a name of SageMaker's own: those that begin with `sagemaker_` choose the"
            " launcher. HINT: name it otherwise."
        )
    if len(value) > _LIMIT:
        raise ValueError(
            f"Script argument `--{name}` has a value of {len(value)} characters; SageMaker takes at most {_LIMIT}."
            " HINT: put it into a file in the source folder."
        )
    if "'" in value and sdk == "v3":
        raise ValueError(
            f"Script argument `--{name}`={value!r} holds a single quote, at which SDK v3's start script breaks (it"
            " writes `export SM_HP_...='value'`). HINT: put the value into a file, or use --sdk v2."
        )
