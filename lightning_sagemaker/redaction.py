"""Redaction: what looks like a secret is taken out of a text that others will read (job page, store, logs, reports).

Each pattern takes time in proportion to the text, whatever stands in it: what one match attempt scans is bounded, or is
scanned by no other attempt.
"""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MASK = "***"
_SHORTEST = 6  # characters of a token or key, and of a variable's value that is looked for; shorter ones are words
_LONG = 16  # characters of a word that is no English one
_NONE: Mapping[str, str] = MappingProxyType({})

# Names, in lower case with underscores. A vocabulary's tokens, counts of them and pages of a listing are no secrets.
_ORDINARY_NAME = re.compile(
    r"(?:^|_)(?:pad|bos|eos|unk|sep|cls|class|mask|image|audio|special|start|end|stop|begin|next|last|first|new|previous"
    r"|per|each|distillation|register|query|position|type|continuation|pagination|added|target|decoder_start)_token$"
    r"|(?<!api_)(?<!auth_)(?<!access_)tokens(?:_per_\w+)?$|tokenizer|(?:error|exception|warning)s?$"
)
_STRONG_NAME = re.compile(  # whatever the value is
    r"passw(?:or)?ds?$|pass_?(?:phrase|code)s?$|(?:^|_)pwd$|(?:^|_)(?:db|user|smtp|mail|mysql|pg|redis|root|admin)_pass$"
    r"|secrets?(?:_(?:string|value|text|access_key|key))?$|credentials?$|private_?key$"
)
_WEAK_NAME = re.compile(  # what is neither short, nor a number, nor code
    r"token$|(?:^|_)(?:auth|sig|jwt|bearer|session_?id)$|signature$|(?:api|access|account|admin|app|auth|client|consumer"
    r"|deploy|encryption|license|master|secret|security|service|shared|signing|ssh|storage|subscription|webhook"
    r"|anthropic|comet|hf|neptune|openai|wandb)_?key(?:_?id)?$"
)
_HEADER_NAME = re.compile(r"(?:^|_)(?:authorization|cookies?2?)$")  # the value has spaces, and ends with the line
_CREDENTIAL = re.compile(r"TOKEN|KEY|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH(?!OR)|COOKIE", re.IGNORECASE)

# A name and what stands between it and its value, in code, JSON (also within JSON), YAML, XML, URLs, command lines.
_NAME = re.compile(
    r"""
    (?<![\w.-]) (?P<tag><)? (?P<dashes>--?)? (?P<name>\w[\w.-]*)
    (?:
        \\*['"]? \]? [ \t]* (?:=>|:=|[=:]) [ \t]*
        (?:(?:str|bytes|SecretStr|Optional\[str\]|str[ ]\|[ ]None)[ \t]*=[ \t]*)?    # an annotation of an argument
      | (?:%22)? %3[AaDd] (?:%22)? | \\+u003[dD]
      | \\*['"]? ,? \s{1,100} \\*['"]?[Vv]alue\\*['"]? [ \t]* [=:] [ \t]*        # name: TOKEN, value: ...
      | (?P<comma> \\*['"] [ \t]* , [ \t]* (?=\\*['"]) )
      | (?(tag) > | (?!) )
      | (?(dashes) [ \t]+ (?!-) | (?!) )
    )
    """,
    re.VERBOSE,
)
_QUOTED = re.compile(
    r"""[bBfFrRuU]{0,2} (?P<quote>\\*(?:\"{3}|'{3}|["'])) (?P<content>(?:(?!(?P=quote))(?:\\+["']?|[^\\\n]))*)""",
    re.VERBOSE,
)
_SEVERAL = re.compile(r"""[(\[][ \t]*(?P<content>[bBfFrRuU]{0,2}\\*["'][^()\[\]\n]*)""")  # auth=("user", "password")
_BLOCK = re.compile(r"[|>][+-]?[ \t]*\n(?P<content>(?:[ \t]+[^\n]*(?:\n|\Z))+)")  # of YAML
_REST_OF_LINE = re.compile(r"(?P<content>[^\n]*)")
_UNTIL_SPACE = re.compile(r"""(?P<content>(?:(?!\\*["'])\S)+)""")
_UNTIL_DELIMITER = re.compile(r"""(?P<content>[^\s,;&'"\\)\]}<>]+)""")
_NUMBER = re.compile(r"[+-]?[\d._]+(?:e[+-]?\d+)?%?", re.IGNORECASE)
# In a traceback's source lines: where the value comes from, and not what it is.
_CODE = re.compile(
    r"(?:None|True|False|null|true|false|none|str|bytes|int|SecretStr|Optional|getpass)\b[(\[]?.*"
    r"|(?:os|self|cls|args|cfg|config|settings|hparams|trainer|env|environ|secrets)\.[A-Za-z_][\w.]*[(\[]?.*|\$\{?\w+\}?"
)
_LOOKUP = re.compile(r"[A-Za-z_][\w.]*[(\[].*")  # of a token or key: get_token(...), tokens[0]

_NO_PORT = r"(?!\d{1,5}(?:[/?#,;\s'\")\]]|$))"  # behind the colon in a URL's authority
_PREFIXES = (  # of tokens, by who gives them out
    r"AC[a-f0-9]{30}|AIza|AGE-SECRET-KEY-1|AQVN|ATATT3|ATBB|GOCSPX-|NRAK-|PMAK-|SG\.|SK[a-f0-9]{30}|api_org_|dapi[a-f0-9]{8}"
    r"|dckr_(?:pat|oat)_|do[oprt]_v1_|dp\.(?:pt|st|ct)\.|fw_|gh[oprsu]_|github_pat_|gl(?:agent|cbt|dt|ffct|ft|imt|oas)-"
    r"|gl(?:pat|ptt|rt|soat)-|glc_|glsa_|gsk_|hf_|hv[bs]\.|key-[a-f0-9]{8}|lin_api_|lsv2_(?:pt|sk)_|npm_|nvapi-|ntn_"
    r"|pplx-|pul-|pypi-AgE|r8_|rubygems_|sbp_|sgp_|shp(?:at|ca|pa|ss)_|sk-|sntry[su]_|[prs]k_(?:live|test)_|tvly-"
    r"|wandb_v\d+_|whsec_|xai-|xapp-|xox[a-z]-|ya29\.|FlyV1"
)
_SHAPES = (
    (r"(?s)-----BEGIN[^-\n]{0,60}-----.*?(?:-----END[^-\n]{0,60}-----|\Z)", MASK),  # PEM
    # A URL with user and password, or with a token; one that an error has cut; the same without its scheme.
    (rf"://[^\s/@:'\"]*(?::{_NO_PORT}(?:(?!://)[^\n@])*)?@(?:[^\s/@]*@)*", f"://{MASK}@"),
    (rf"://[^\s/@:]*:{_NO_PORT}(?:(?!://|\.\.\.)[^\s@])*\.\.\.", f"://{MASK}..."),
    (r"(?<![^\s'\"=(,\[{<])(?!mailto:)[^\s'\"=:@/(,\[{<]+:(?!\d+@|//)[^\s'\"@]{1,512}@(?!sha256:)", f"{MASK}@"),
    (r"((?:^|\s)(?:-u|--user)[ =][ \t]*)[^\s:]+:\S+", rf"\1{MASK}"),  # curl
    (r"(\bsshpass[ \t]+-p[ \t]*)\S+", rf"\1{MASK}"),
    (r"(\blogin\s+\S+\s+password\s+)\S+", rf"\1{MASK}"),  # .netrc
    # AWS: a key's id, perhaps with the key; a session's token; the account in an ARN
    (r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b(?:[\s:,;|/'\"]{1,4}[A-Za-z0-9/+]{40}\b)?", MASK),
    (r"(?<![A-Za-z0-9])(?:FQoG|FwoG|IQoJ)[A-Za-z0-9+/=]{40,}", MASK),
    (r"(?<=:)\d{12}(?=:)", MASK),
    (r"(?<![\w-])eyJ[\w-]{6,}(?:\.[\w-]+){1,4}", MASK),  # JWT
    (r"(?<![\w-])eyJ[\w+/=-]{40,}", MASK),  # JSON in base64, as Neptune's
    (rf"(?<![A-Za-z0-9_])(?:{_PREFIXES})(?=[\w.-]{{0,80}}\d)[\w./+=-]{{12,}}", MASK),
    (r"(?<![A-Za-z0-9])(?:bot)?\d{8,12}:[\w-]{30,}", MASK),  # Telegram
    (r"((?:hooks\.slack\.com|webhook\.office\.com|discord(?:app)?\.com/api/webhooks)/)[\w/@.-]+", rf"\1{MASK}"),
    (r"(?i)\b(Bearer|Basic|Token)( +)(?=[\w.~+/=-]{0,80}\d)[\w.~+/=-]{8,}", rf"\1\2{MASK}"),
    # What a function that signs in is given, by position or by any name; a long key that is called nothing more.
    (r"(\b\w{0,40}login\([ \t]{0,9}(?:\w{1,40}[ \t]{0,3}=[ \t]{0,3})?\\{0,9}[\"'])[^\"'\\\n]{8,}", rf"\1{MASK}"),
    (
        r"(\bkey\\{0,9}[\"']?[ \t]{0,3}[=:][ \t]{0,3}\\{0,9}[\"']?)(?=[A-Za-z0-9]{0,80}\d)[A-Za-z0-9]{32,}",
        rf"\1{MASK}",
    ),
)


def is_credential(name: str) -> bool:
    """Whether a variable's name suggests a secret; its value is then printed under no circumstances."""
    if name.startswith("SM_CHANNEL_"):  # holds a folder
        return False
    return _CREDENTIAL.search(name) is not None and not _ORDINARY_NAME.search(_plain(name))


def redact(text: str, environ: Mapping[str, str] = _NONE) -> str:
    """The text without what looks like a secret, and without what variables hold whose names suggest one.

    It must not have been cut: of half a secret nothing tells what it is.
    """
    secrets = _values(environ)
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _without_beginnings(text, secrets)
    for shape, instead in _SHAPES:
        text = re.sub(shape, instead, text)
    return _without_assigned(text)


def _without_assigned(text: str) -> str:
    """The text without values of what is called a password, a token, a key or the like."""
    kept, at = [], 0
    while found := _NAME.search(text, at):
        begin, end = _value(text, found)
        kept += [text[at:begin], MASK] if end > begin else [text[at:begin]]
        at = end
    return "".join((*kept, text[at:]))


def _value(text: str, found: re.Match[str]) -> tuple[int, int]:
    """Where the secret stands that belongs to a name; an empty piece where it is none."""
    nothing, end = (found.end(), found.end()), found.end()
    name = _plain(found["name"])
    if _ORDINARY_NAME.search(name) or found["name"] in ("PWD", "OLDPWD"):  # a shell's folders
        return nothing
    header, strong = _HEADER_NAME.search(name), _STRONG_NAME.search(name)
    of_environment = found["name"].isupper() and is_credential(found["name"])
    if not (header or strong or of_environment or _WEAK_NAME.search(name)):
        return nothing
    unquoted = _UNTIL_SPACE if strong else _UNTIL_DELIMITER
    before = text[max(found.start() - 200, 0) : found.start()].rpartition("\n")[2]
    if header:
        # `curl -H "Cookie: ..."`: a header within quotes ends with them.
        unquoted = (
            _REST_OF_LINE if not before.endswith(("'", '"')) else re.compile(rf"(?P<content>[^{before[-1]}\\\n]*)")
        )
    elif strong and not before.strip(" \t-") and found[0].endswith((": ", ":\t")) and found["name"].islower():
        unquoted = _REST_OF_LINE  # YAML: the words of a passphrase
    quoted = _QUOTED.match(text, end) or _SEVERAL.match(text, end) or _BLOCK.match(text, end)
    value = quoted or unquoted.match(text, end)
    if value is None:
        return nothing
    content = value["content"]
    if _CODE.fullmatch(content) and not quoted:
        return nothing
    if not strong and not header:
        looks_random = len(content) >= _LONG or any(map(str.isdigit, content))
        is_prose = found["comma"] or (not quoted and found[0].endswith((" ", "\t")) and ":" in found[0][-3:])
        if (
            len(content) < _SHORTEST
            or _NUMBER.fullmatch(content)
            or (not quoted and _LOOKUP.fullmatch(content))
            or (is_prose and not looks_random)
            or (found["comma"] and found["name"].islower() and not found["dashes"] and "key" not in name)
        ):
            return nothing
    return value.span("content")


def _plain(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[.-]+", "_", name).lower()


def _values(environ: Mapping[str, str]) -> list[str]:
    """What variables with a secret's name hold, as it may stand in texts, the longest first."""
    lines = (line.strip() for name, value in environ.items() if _is_secret(name, value) for line in value.splitlines())
    secrets = {
        spelled
        for line in lines
        if len(line) >= _SHORTEST
        for spelled in (line, quote(line, safe=""), json.dumps(line)[1:-1])
    }
    return sorted(secrets, key=len, reverse=True)


def _is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a secret; a word in a hyperparameter `text_key` is none, and stands in many an error."""
    if not is_credential(name):
        return False
    plain = _plain(name)
    is_called_so = not name.startswith("SM_HP_") or _STRONG_NAME.search(plain) or _WEAK_NAME.search(plain)
    return bool(is_called_so) or (len(value) >= _LONG and any(map(str.isdigit, value)))


def _without_beginnings(text: str, secrets: Sequence[str]) -> str:
    """The text without beginnings of secrets before ``...``: errors cut long values."""
    *cut, last = text.split("...")
    for index, piece in enumerate(cut):
        for secret in secrets:
            lengths = range(min(len(secret), len(piece)), _SHORTEST - 1, -1)
            if length := next((length for length in lengths if piece.endswith(secret[:length])), 0):
                cut[index] = piece[:-length] + MASK
                break
    return "...".join((*cut, last))
