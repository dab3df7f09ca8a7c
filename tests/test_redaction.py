"""Texts with secrets, none of which is left, and ordinary ones, which stay as they are.

The secrets are made here, from parts and a seed: no scanner of repositories shall take one for a real one.
"""

from __future__ import annotations

import base64
import json
import random
import string
import time
from urllib.parse import quote

import pytest

from lightning_sagemaker.redaction import MASK, is_credential, redact

_RANDOM = random.Random(19)  # noqa: S311 - no secrets: they only look like some
_LETTERS = string.ascii_letters + string.digits


def made(length: int, letters: str = _LETTERS) -> str:
    return "".join(_RANDOM.choices(letters, k=length - 2)) + "4" + letters[-1]


def pem(kind: str) -> tuple[str, str]:
    body = "\n".join(made(64) for _ in range(4))
    dashes = 5 * "-"
    return body, f"{dashes}BEGIN {kind}{dashes}\n{body}\n{dashes}END {kind}{dashes}"


def part(length: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"sub": made(length)}).encode()).decode().rstrip("=")


S = made(24)  # any secret
HEX = made(40, "0123456789abcdef")
WORD = "hun" + "ter2"
KEY_ID = "AKIA" + made(16, string.ascii_uppercase + string.digits)
B64 = base64.b64encode(made(48).encode()).decode()
JWT = ".".join((part(10), part(30), made(43)))
_BODY, _PEM = pem("RSA PRIVATE KEY")
_BODY_SSH, _PEM_SSH = pem("OPENSSH PRIVATE KEY")

# By name: the secret, and a text in which it stands.
WITH_SECRETS: dict[str, tuple[str, str]] = {
    "header, bearer": (S, f"Authorization: Bearer {S}"),
    "header, basic": (B64, f"authorization: Basic {B64}"),
    "header, of AWS": (HEX, f"Authorization: AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101, Signature={HEX}"),
    "header, digest": (HEX, f'Authorization: Digest username="me", response="{HEX}"'),
    "header in curl": (S, f'curl -H "Authorization: token {S}" https://example.com'),
    "header in a dict": (S, f"headers={{'Authorization': 'Bearer {S}', 'Accept': '*/*'}}"),
    "header in a list": (S, f"[('Authorization', 'Bearer {S}')]"),
    "cookie": (S, f"Cookie: theme=dark; sessionid={S}; lang=en"),
    "set-cookie": (S, f"Set-Cookie: id={S}; Path=/"),
    "x-api-key": (S, f"x-api-key: {S}"),
    "X-Api-Key in JSON": (S, json.dumps({"X-Api-Key": S})),
    "bearer alone": (S, f"401 for Bearer {S}"),
    "SAS signature": (
        quote(B64, safe=""),
        f"https://a.blob.core.windows.net/c?sv=2024-05-04&sr=c&sig={quote(B64, safe='')}&se=x",
    ),
    "presigned URL, signature": (
        HEX,
        f"https://b.s3.amazonaws.com/k?X-Amz-Credential={KEY_ID}%2F2026&X-Amz-Date=1&X-Amz-Signature={HEX}",
    ),
    "presigned URL, token": (quote(B64, safe=""), f"https://b/k?X-Amz-Security-Token={quote(B64, safe='')}&x=1"),
    "presigned URL, old": (B64, f"https://b/k?AWSAccessKeyId={KEY_ID}&Signature={B64}&Expires=1"),
    "Google's signature": (HEX, f"https://storage.googleapis.com/b/o?X-Goog-Signature={HEX}"),
    "AWS key id": (KEY_ID, f"The key {KEY_ID} has no access"),
    "AWS secret key": (B64[:40], f"aws_secret_access_key = {B64[:40]}"),
    "AWS key after its id": (B64[:40], f"{KEY_ID}:{B64[:40]}"),
    "AWS session token": ("IQoJ" + B64, f"token is IQoJ{B64}"),
    "JSON": (WORD, json.dumps({"user": "me", "password": WORD})),
    "JSON within JSON": (WORD, json.dumps({"body": json.dumps({"password": WORD})})),
    "JSON within JSON within JSON": (S, json.dumps({"a": json.dumps({"b": json.dumps({"api_key": S})})})),
    "JSON, a quote in it": (S, json.dumps({"password": f'a"{S}'})),
    "JSON in a URL": (S, quote(json.dumps({"token": S}), safe="")),
    "PEM": (_BODY.splitlines()[2], f"cannot load\n{_PEM}\nas a key"),
    "PEM in JSON": (_BODY_SSH.splitlines()[1], json.dumps({"private_key": _PEM_SSH})),
    "PEM, cut": (_BODY.splitlines()[1], _PEM[:-80]),
    "JWT": (JWT.split(".")[2], f"expired: {JWT}"),
    "Hugging Face": ("hf_" + S, f"login failed with hf_{S}"),
    "GitHub": (S, "cannot clone with gh" + f"p_{S}"),
    "GitHub, fine": (S, "github" + f"_pat_{S}"),
    "GitLab": (S, "denied: gl" + f"pat-{S}"),
    "OpenAI": (S, "Incorrect API key provided: sk" + f"-proj-{S}"),
    "Anthropic": (S, "invalid x-api-key sk" + f"-ant-api03-{S}"),
    "Slack": (S, "xox" + f"b-123456789012-{S}"),
    "Slack, webhook": (S, f"POST https://hooks.slack.com/services/T0123/B0123/{S}"),
    "Discord, webhook": (S, f"POST https://discord.com/api/webhooks/12345/{S}"),
    "Google": (S, "AI" + f"za{S}abcdefghijk"),
    "Google, OAuth": (S, "ya" + f"29.{S}"),
    "PyPI": (S, "pypi" + f"-AgEIcHlwaS5vcmc{S}"),
    "Stripe": (S, "sk" + f"_live_{S}"),
    "npm": (S, "npm" + f"_{S}"),
    "W&B, by name": (HEX, f"wandb.login(key='{HEX}')"),
    "W&B, by position": (HEX, f'    wandb.login("{HEX}")'),
    "W&B, new": (S, f"wandb_v1_{S}"),
    "Databricks": (HEX[:32], f"dapi{HEX[:32]}"),
    "Telegram": (S, f"https://api.telegram.org/bot123456789:{S}{S}/send"),
    "password in a URL": (WORD, f"cannot reach postgresql://me:{WORD}@db.example.com:5432/runs"),
    "password with / and @ in a URL": (f"{WORD}/x@y", f"https://me:{WORD}/x@y@example.com/x"),
    "password without user": (WORD, f"redis://:{WORD}@cache:6379/0"),
    "token in a URL": (S, f"git clone https://{S}@example.com/x.git"),
    "password without scheme": (WORD, f"connect to me:{WORD}@db.example.com"),
    "URL, cut": (S, f"invalid literal: 'https://me:{S}...'"),
    "--token V": (S, f"train.py --epochs 3 --token {S}"),
    "--password=V": (WORD, f"train.py --password={WORD} --epochs 3"),
    "--api-key V": (S, f"--api-key {S}"),
    "arguments as a list": (S, json.dumps(["train.py", "--token", S])),
    "curl -u": (WORD, f"curl -u me:{WORD} https://example.com"),
    "environment": (S, f"export COMET_API_KEY={S}"),
    "environment, password": (WORD, f"PGPASSWORD={WORD} psql"),
    "environment, any key": (S, f"DEPLOY_KEY={S}"),
    "os.environ": (S, f"os.environ['HF_TOKEN'] = '{S}'"),
    "setdefault": (S, f'os.environ.setdefault("HF_TOKEN", "{S}")'),
    "argument": (S, f"    login(token='{S}', add_to_git_credential=False)"),
    "argument, bytes": (S, f"connect(secret=b'{S}')"),
    "argument, annotated": (S, f'def login(token: str = "{S}") -> None:'),
    "argument, a pair": (WORD, f'requests.get(url, auth=("me", "{WORD}"))'),
    "attribute": (WORD, f"self.password = '{WORD}'"),
    "YAML": (WORD, f"database:\n  user: me\n  password: {WORD}\n  port: 5432"),
    "YAML, words": ("battery staple", "  passphrase: correct horse battery staple\n"),
    "YAML, block": (S, f"token: |\n  {S}\n  {S}\nuser: me"),
    "YAML, token": (S, f"api_key: {S}"),
    "XML": (WORD, f"<user>me</user><password>{WORD}</password>"),
    "connection string": (B64, f"DefaultEndpointsProtocol=https;AccountKey={B64};EndpointSuffix=x"),
    "connection string, Pwd": (WORD, f"Server=db;Uid=me;Pwd={WORD};"),
    "a variable of a container": (S, f"env:\n- name: API_TOKEN\n  value: {S}"),
    "a variable of a container, in JSON": (S, json.dumps({"Name": "API_TOKEN", "Value": S})),
    "XML, attributes": (S, f'<add key="password" value="{S}"/>'),
    "JSON, escaped": (S, f'"https://x/?a=1\\u0026token\\u003d{S}"'),
    "sshpass": (WORD, f"sshpass -p {WORD} ssh algo-2"),
    "--wandb_key V": (S, f"train.py --wandb_key {S}"),
    "properties": (S, f"spark.hadoop.fs.s3a.secret.key={S}"),
    "camelCase": (S, json.dumps({"SecretAccessKey": S, "SessionToken": S})),
    ".netrc": (WORD, f"machine api.wandb.ai login user password {WORD}"),
    "Kaggle": (HEX[:32], json.dumps({"username": "me", "key": HEX[:32]})),
    "source line of a traceback": (S, f'  File "train.py", line 3, in <module>\n    hub.login(token="{S}")\n'),
}

ORDINARY = (
    "KeyError: \"the column 'age' is missing\"",
    "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    'Traceback (most recent call last):\n  File "/opt/ml/code/train.py", line 31, in <module>\n    main()',
    "  /opt/ml/code/train.py:31 in main: trainer.fit(model, data, ckpt_path=latest_checkpoint())",
    "s3://bucket/prefix/epoch=3-step=100.ckpt",
    "https://bucket.s3.eu-west-1.amazonaws.com/prefix/last.ckpt?versionId=3",
    "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1-gpu@sha256:" + HEX,
    "image:2.5.1@sha256:" + HEX,
    f"commit {HEX}",
    f"git_hash={HEX} version=1.2.3",
    f"sha256: {HEX}",
    "epoch=3-step=100-val_loss=0.25.ckpt",
    "last-v10.ckpt, sigterm-epoch=3-step=100.checkpoint",
    "lightning_sagemaker metrics: train_loss=0.25; val/token_accuracy=0.93; epoch=3;",
    "tokens=4096",
    "max_tokens=4096, num_tokens: 131072, tokens_per_second=12345.6",
    "tokenizer=bert-base-uncased",
    "tokenizer: LlamaTokenizerFast(name_or_path='meta-llama/Llama-3', vocab_size=128000)",
    "TOKENIZERS_PARALLELISM=false",
    "pad_token='[PAD]', eos_token='<|endoftext|>', bos_token: <s>, next_token=abcdefgh",
    "size mismatch for cls_token: copying a param with shape torch.Size([1, 1, 768]) from checkpoint",
    'Missing key(s) in state_dict: "encoder.query_token", "encoder.position_embedding.weight".',
    "query_token: torch.Size([1, 32, 768])",
    "JSONDecodeError: Unexpected token: identifier",
    "    token = os.environ['HF_TOKEN']",
    "    login(token=args.token, api_key=get_secret('name'), password=None)",
    "login(token=token)",
    "KeyError: 'HF_TOKEN'",
    "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    "An error occurred (ExpiredToken) when calling the PutObject operation: The provided token has expired.",
    "ValueError: The environment variable WANDB_API_KEY is not set. HINT: export it.",
    "sort_key=length, primary key: id, keys=12, key=step, cache_key=3",
    "author: someone, authors=2, authenticated: true",
    "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB",
    "Connection reset by peer [algo-1]:41234 at tcp://10.0.0.1:7777",
    "http://localhost:8080/x and mail ops@example.com",
    "git@github.com:Lightning-AI/pytorch-lightning.git@v2",
    "PWD=/opt/ml/code OLDPWD=/",
    "RANK=8, WORLD_SIZE=16, MASTER_ADDR=algo-1, MASTER_PORT=7777",
    "torchrun --nproc_per_node 8 train.py --strategy smddp --lr 0.1 --batch-size 32",
    "risk-averse-strategy-with-a-long-name-2026, sk-learn",
    "huggingface_hub hf_hub_download(repo_id='gpt2', filename='config.json')",
    "2026-12-01 10:00:05,123 INFO epoch 3: 100%|##########| 938/938 [00:05<00:00, 170.12it/s, v_num=0]",
    "NCCL WARN Call to connect returned Connection refused, retrying",
    "[Errno 28] No space left on device: '/opt/ml/checkpoints/last.ckpt'",
    "the secret of a good model is data, and its password is patience",
    "signature=inspect.signature(fn)",
    "pin_memory=True, monitor='val_loss', mode='min', api_version=2",
    "name: tokens, value: 4096",
    "Basic understanding of tokens, Bearer of bad news",
    "{'strategy': 'ddp', 'devices': 8, 'precision': 'bf16-mixed', 'key': 'value'}",
)


@pytest.mark.parametrize("name", WITH_SECRETS)
def test_no_secret_is_left(name: str) -> None:
    secret, text = WITH_SECRETS[name]
    assert secret in text
    left = redact(text)
    assert secret not in left
    for index in range(len(secret) - 11):  # nor half of it
        assert secret[index : index + 12] not in left
    assert MASK in left


def test_all_in_one_text_and_each_in_a_traceback_s_line() -> None:
    text = "\n".join(f"  train.py:{line} in main: {each}" for line, (_, each) in enumerate(WITH_SECRETS.values()))
    left = redact(text)
    assert [name for name, (secret, _) in WITH_SECRETS.items() if secret in left] == []
    assert all(f"train.py:{line} in main:" in left for line in range(20))


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_what_is_redacted_stays_as_it_is() -> None:
    for _, text in WITH_SECRETS.values():
        once = redact(text)
        assert redact(once) == once


def test_what_stands_around_a_secret_stays() -> None:
    assert redact(f"login(token='{S}', name='me')") == f"login(token='{MASK}', name='me')"
    assert redact(f"?a=1&sig={HEX}&b=2") == f"?a=1&sig={MASK}&b=2"
    assert json.loads(redact(json.dumps({"password": WORD, "epochs": 3}))) == {"password": MASK, "epochs": 3}
    assert redact(f"postgresql://me:{WORD}@db:5432/runs") == f"postgresql://{MASK}@db:5432/runs"


def test_what_a_variable_of_a_secret_s_name_holds_is_found_in_any_text() -> None:
    environ = {"TEAM_SECRET": "plain words", "RANK": "plain", "DB_PASSWORD": "long a/b c"}
    assert redact("it says plain words, and long%20a%2Fb%20c", environ) == f"it says {MASK}, and {MASK}"
    assert redact("cut: plain wo...", environ) == f"cut: {MASK}..."


@pytest.mark.parametrize(
    "name", ["MAX_TOKENS", "SM_HP_NUM_TOKENS", "TOKENS_PER_SECOND", "PAD_TOKEN", "SM_HP_TOKENIZER"]
)
def test_a_vocabulary_s_tokens_and_counts_of_them_are_no_secrets(name: str) -> None:
    assert not is_credential(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SM_CHANNEL_KEYPOINTS", "/opt/ml/input/data/keypoints2"),
        ("SM_CHANNEL_TOKENIZED", "/opt/ml/input/data/tokenized"),
        ("SM_HP_TEXT_KEY", "question"),
        ("SM_HP_TOKEN_MIXER", "attention"),
    ],
)
def test_a_channel_s_folder_and_a_hyperparameter_s_word_stay(name: str, value: str) -> None:
    assert redact(f"KeyError: '{value}'", {name: value}) == f"KeyError: '{value}'"


@pytest.mark.parametrize("name", ["SM_HP_HF_TOKEN", "SM_HP_DB_PASSWORD", "SM_HP_API_KEY_2", "SM_HP_TOKEN_OF_TEAM"])
def test_a_hyperparameter_that_is_called_a_secret_or_looks_like_one_is_found(name: str) -> None:
    value = "plain words" if name in ("SM_HP_HF_TOKEN", "SM_HP_DB_PASSWORD") else f"plain words {HEX[:8]}2"
    assert redact(f"401 for {value}", {name: value}) == f"401 for {MASK}"


ADVERSARIAL = (
    "://",
    "://a:",
    "a:",
    "(a:",
    "a@",
    "a:b@",
    "://a:b ",
    "token",
    "token=",
    "token =",
    "token:\\\\",
    "password='",
    'password="\\',
    "password: ",
    "auth=(",
    "auth=('",
    "Authorization: ",
    "<password>",
    "--token ",
    '"token", "',
    "eyJ",
    "eyJa.",
    "hf_",
    "sk-",
    "-----BEGIN-----",
    "-----BEGIN ",
    "AKIA",
    "IQoJ",
    "Bearer ",
    "login(",
    "login password ",
    "-u ",
    "key=",
    "token: |\n ",
    "hooks.slack.com/",
    "...",
    " ",
    "\\",
    "'",
    "\n",
    "a",
    "-",
    ".",
    "_",
    "1",
    "%3D",
    "%22",
    "token value",
    "token,   ",
)


def _seconds(text: str) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()
        redact(text, {"A_TOKEN": "abcdefgh" * 8})
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("piece", ADVERSARIAL)
def test_eight_times_the_text_takes_about_eight_times_as_long(piece: str) -> None:
    """Quadratic time would be 64 times as long; the bound lies between, and both are measured on the same machine."""
    short, long = piece * (4_000 // len(piece)), piece * (32_000 // len(piece))
    assert _seconds(long) < 24 * max(_seconds(short), 0.0005)
