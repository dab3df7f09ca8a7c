"""Troubleshooting has an entry for each message of the package: who is stopped by one finds it by its words."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lightning_sagemaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    Sinks = dict[tuple[str, str], tuple[int, str, bool]]

ROOT = Path(__file__).parents[2]
PACKAGE = Path(lightning_sagemaker.__file__).parent  # also where the wheel is under test, without sources
PAGES = ROOT / "docs" / "troubleshooting"

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# What makes a job's failure of what it is given, or is given a logger's method. Functions that hand on what they are
# given are found: see `_find_sinks`.
SINKS = {"report", "report_to_all", "note", "warn_once"}
FINDINGS = {"Finding", "finding", "fail", "unknown", "warn", "ok"}
LONGEST = 40  # characters by which a message is looked for
SHORTEST = 8  # fewer are found by chance
FEWEST = 3  # words with which a message begins, and not a name
DEEPEST = 4  # variables that stand for variables

# Files in which all that is said comes from elsewhere, as often as the number says, and from where.
PASSED_ON = {
    "checkpoint/transfer.py": (1, "the other host, in the words of `Server`"),
    "distributed/reachability.py": (2, "the words of `blocked`"),
    "distributed/wait_for_ranks.py": (2, "another host, in the words of `blocked`"),
    "jobs/following.py": (1, "what AWS answers"),
    "patches/checkpoints.py": (1, "the system's error, as in stock"),
    "patches/launched.py": (1, "raises an exit code"),
    "patches/same_checkpoint.py": (1, "Lightning, and the words of `fetch`"),
    "patches/signals.py": (2, "raises exit codes"),
    "submit/command.py": (1, "raises an exit code"),
    "submit/parser.py": (2, "argparse, and jsonargparse"),
    "submit/sending.py": (1, "a check"),
    "simulate/run.py": (1, "the plan's notes"),
    "simulate/spec.py": (1, "the words of `carry`"),
    "simulate/processes.py": (1, "raises an exit code"),
    "smddp/collectives.py": (1, "another rank, in the words of `fail`"),
}
# What no user sees: `file`, or `file:exception`.
UNSEEN = {
    "__init__.py": "Python's own AttributeError for a name that is not there",
    "fabric.py": "the same",
    "smddp/strategies.py:AttributeError": "the same",
    "checkpoint/reading.py:EOFError": "caught in the same function",
}


class _Messages(ast.NodeVisitor):
    """Collects what one file raises, logs and says."""

    def __init__(self, file: str, functions: dict[str, list[ast.FunctionDef]], sinks: Sinks) -> None:
        self.found: list[tuple[str, str]] = []  # place, message with \0 for what is filled in
        self.unknown: list[str] = []  # places whose message nobody knows
        self._sinks = sinks
        self._file = file
        self._functions = functions
        self._stack: list[ast.FunctionDef] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._stack.append(node)
        self.generic_visit(node)
        self._stack.pop()

    def visit_Raise(self, node: ast.Raise) -> None:
        if isinstance(node.exc, ast.Call) and f"{self._file}:{ast.unparse(node.exc.func)}" not in UNSEEN:
            self._collect(node, node.exc.args)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        for message, is_whole in _shown(node, self._file, self._sinks):
            self._collect(node, [message], is_whole=is_whole)
        for keyword in node.keywords:
            if keyword.arg == "problem":
                self._collect(node, [keyword.value])
        self.generic_visit(node)

    def _collect(self, node: ast.AST, arguments: list[ast.expr], *, is_whole: bool = True) -> None:
        texts = [text for argument in arguments for text in self._texts(argument)]
        told = [text for text in texts if len("".join(pieces(text))) >= SHORTEST]
        if not is_whole:  # a name with which a message begins, perhaps
            told = [text for text in told if len(text.split()) >= FEWEST]
        place = f"{self._file}:{getattr(node, 'lineno', 0)}"
        self.found += [(place, text) for text in told]
        # What a function was given is looked for at its callers.
        if is_whole and not told and not any(_given(self._stack[-1:], argument) for argument in arguments):
            self.unknown.append(place)

    def _texts(self, node: ast.expr, depth: int = 0) -> Iterator[str]:
        """Texts that an expression may stand for: its own, those of a variable, those that a function returns."""
        if (text := _text(node)) is not None:
            yield text
        elif isinstance(node, (ast.BinOp, ast.IfExp, ast.BoolOp)):
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.expr) and not (isinstance(node, ast.IfExp) and part is node.test):
                    yield from self._texts(part, depth)
        elif isinstance(node, ast.Name) and depth < DEEPEST:
            yield from self._values(node.id, depth + 1)
        elif isinstance(node, ast.Call) and depth < DEEPEST:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for function in self._functions.get(name, []):
                yield from _sentences(function)

    def _values(self, name: str, depth: int) -> Iterator[str]:
        for node in ast.walk(self._stack[-1]) if self._stack else ():
            for target, value in _assigned(node):
                if isinstance(target, ast.Name) and target.id == name:
                    yield from self._texts(value, depth)


def _shown(node: ast.Call, file: str, sinks: Sinks) -> Iterator[tuple[ast.expr, bool]]:
    """Arguments of a call that are shown to users, and whether each is a message by itself or its beginning."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    logs = name in LEVELS and (owner == "log" or owner.startswith("logging.getLogger"))
    if (logs or name == "say") and node.args:
        words = _text(node.args[0]) or ""
        if words.startswith("%s") and len(node.args) > 1:
            yield node.args[1], words == "%s"
        if words != "%s":
            yield node.args[0], not words.startswith("%s")
    elif name in SINKS or ast.unparse(node.func) in ("sys.stderr.write", "parser.error", "notes.append"):
        yield node.args[0], True
    elif (file, name) in sinks:
        position, parameter, is_whole = sinks[file, name]
        named = [keyword.value for keyword in node.keywords if keyword.arg == parameter]
        yield from ((argument, is_whole) for argument in [*node.args[position : position + 1], *named])


def _given(functions: list[ast.FunctionDef], message: ast.expr) -> tuple[int, str, bool] | None:
    """The parameter that a message is or begins with: place, not counting the object of a method; name; which of both.

    Args:
        functions: The function in which it stands, if any.
        message: The message.
    """
    is_whole = not isinstance(message, ast.JoinedStr)
    if isinstance(message, ast.JoinedStr) and message.values and isinstance(message.values[0], ast.FormattedValue):
        message = message.values[0].value
    if not functions or not isinstance(message, ast.Name):
        return None
    names = [argument.arg for argument in functions[-1].args.args if argument.arg not in ("self", "cls")]
    if message.id in names:
        return names.index(message.id), message.id, is_whole
    for node in ast.walk(functions[-1]):
        for target, value in _assigned(node):
            if isinstance(target, ast.Name) and target.id == message.id and isinstance(value, ast.JoinedStr):
                return _given(functions, value)
    return None


def _find_sinks(trees: dict[str, ast.Module]) -> Sinks:
    """Functions that show what they are given, by file and name, with the parameter."""
    sinks: Sinks = {}
    functions = [
        (file, node) for file, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    while True:
        before = len(sinks)
        for file, function in functions:
            for node in ast.walk(function):
                shown: list[tuple[ast.expr, bool]] = []
                if isinstance(node, ast.Call):
                    shown = list(_shown(node, file, sinks))
                elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    shown = [(message, True) for message in node.exc.args[:1]]
                for message, is_whole in shown:
                    if found := _given([function], message):
                        sinks.setdefault((file, function.name), (*found[:2], found[2] and is_whole))
        if len(sinks) == before:
            return sinks


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Targets and values of any kind of assignment."""
    value = node.iter if isinstance(node, ast.For) else getattr(node, "value", None)
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For, ast.NamedExpr)):
        targets = [node.target]
    else:
        return
    for target in targets:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            yield from zip(target.elts, value.elts, strict=True)
        elif value is not None:
            yield target, value


def _sentences(function: ast.FunctionDef) -> Iterator[str]:
    """Sentences in a function's body, but for its docstring and its assertions."""
    skipped: set[int] = set()
    for statement in function.body[1:] if ast.get_docstring(function) else function.body:
        for node in ast.walk(statement):  # parents before their parts
            text = _text(node) if id(node) not in skipped else None
            if isinstance(node, (ast.JoinedStr, ast.Assert)):
                skipped |= {id(part) for part in ast.walk(node)}
            if text is not None and " " in " ".join(pieces(text)):
                yield text


def _text(node: ast.AST) -> str | None:
    """A text as it stands, with \\0 where something is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def pieces(message: str) -> list[str]:
    """The constant words by which a message is looked for: those that it begins with, without its advice."""
    said = re.sub(r"%(\.\d+f|\d*[sdrgf])", "\0", message.partition("HINT:")[0])
    found: list[str] = []
    room = LONGEST
    for part in said.split("\0"):
        words = " ".join(plain(part).split())
        if len(words) > room:
            words = words[:room].rpartition(" ")[0]
        if re.search(r"\w", words):
            found.append(words.strip(" .,:;()"))
            room -= len(words)
        if room < SHORTEST:
            break
    return found


def plain(text: str) -> str:
    """A text without the signs by which Markdown shows code."""
    return text.replace("`", "").replace("\\", "")


def is_told(message: str, page: str) -> bool:
    """Whether a page shows a message, with anything in the places that are filled in."""
    return re.search("[^\n]{0,90}?".join(map(re.escape, pieces(message))), page) is not None


@functools.cache
def _read() -> tuple[list[tuple[str, str]], list[str]]:
    trees = {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
        if "fake_smddp" not in path.parts
    }
    functions: dict[str, list[ast.FunctionDef]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                functions.setdefault(node.name, []).append(node)
    found: list[tuple[str, str]] = []
    unknown: list[str] = []
    sinks = _find_sinks(trees)
    for file, tree in trees.items():
        if file not in UNSEEN:
            messages = _Messages(file, functions, sinks)
            messages.visit(tree)
            found += messages.found
            unknown += messages.unknown
    return found, unknown


def test_each_message_has_an_entry() -> None:
    pages = [plain(path.read_text(encoding="utf-8")) for path in PAGES.glob("*.md")]
    messages, _ = _read()
    assert len(messages) > 150, "the search finds them"
    missing = [
        f"{place}: {'...'.join(pieces(text))}"
        for place, text in messages
        if not any(is_told(text, page) for page in pages)
    ]
    assert not missing, "docs/troubleshooting has no entry for\n" + "\n".join(missing)


def test_no_message_escapes_the_search() -> None:
    unknown = Counter(place.partition(":")[0] for place in _read()[1])
    told = {file: count for file, (count, _) in PASSED_ON.items()}
    assert unknown == told, f"say in PASSED_ON why nothing is looked for at {_read()[1]}"


@pytest.mark.parametrize(
    "source",
    [
        'raise ValueError(f"There is no moon on {day} at all.")',
        'text = f"There is no moon on {day} at all."\n    raise ValueError(text) from error',
        'log.warning("There is no moon on %s at all. HINT: wait.", day)',
        "raise ValueError(_why(day))",
        '_shout(1, f"There is no moon on {day} at all.")',
    ],
)
def test_search_finds_what_is_said_in_any_way(source: str) -> None:
    tree = ast.parse(
        'def _why(day):\n    """Why."""\n    return f"There is no moon on {day} at all."\n'
        'def _shout(often, words):\n    text = f"{words} Again."\n    log.warning(text)\n'
        f"def see(day, error):\n    {source}\n"
    )
    functions = {node.name: [node] for node in tree.body if isinstance(node, ast.FunctionDef)}
    messages = _Messages("sky.py", functions, _find_sinks({"sky.py": tree}))
    messages.visit(tree)
    assert [pieces(text) for _, text in messages.found] == [["There is no moon on", "at all"]]
    assert is_told(messages.found[0][1], "| `There is no moon on ... at all.` | new moon |".replace("`", ""))
    assert not is_told(messages.found[0][1], "| There is no moon | new moon |")


@pytest.mark.parametrize(("folder", "page"), [("doctor", "doctor.md"), ("submit", "troubleshooting/submit.md")])
def test_each_finding_has_an_entry(folder: str, page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    names = {
        argument.value
        for path in (PACKAGE / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FINDINGS
        for argument in node.args[:1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    assert len(names) > 10
    assert not [name for name in names if f"`{name}`" not in text]
