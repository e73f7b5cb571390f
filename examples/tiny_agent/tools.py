"""Invented tools, the questions that need them and what they answer; names vary so that a model must read them."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tool:
    """A declared tool; `roles` says which argument means what."""

    name: str
    arguments: tuple[tuple[str, str], ...]  # (name, type), sorted by name as the template prints them
    description: str
    topic: str
    roles: tuple[tuple[str, str], ...]  # (argument name, role)

    def line(self) -> str:
        """The tool as the chat template writes it into the system part."""
        return f"- {self.name}({', '.join(f'{n}: {t}' for n, t in self.arguments)}) - {self.description}"


@dataclass(frozen=True, slots=True)
class ToolTask:
    tool: Tool
    question: str
    arguments: tuple[tuple[str, str], ...]  # (name, JSON value)
    result: str
    final: tuple[tuple[str, bool], ...]  # pieces of the final answer; True: copied from the result or the question


OPERATIONS = [
    ("+", ("plus", "+")),
    ("-", ("minus", "-")),
    ("*", ("times", "multiplied by", "*", "x")),
    ("/", ("divided by", "/", "over")),
]
CALCULATE = [
    "What is {}?",
    "Calculate {}.",
    "Compute {}.",
    "How much is {}?",
    "what's {}",
    "Please calculate {}.",
    "{}",
    "{} = ?",
    "Can you work out {}?",
    "Evaluate {}.",
    "I need the value of {}.",
    "Tell me {}.",
]
UNITS = [
    "km",
    "miles",
    "metres",
    "feet",
    "inches",
    "cm",
    "mm",
    "yards",
    "kg",
    "pounds",
    "grams",
    "ounces",
    "tonnes",
    "litres",
    "gallons",
    "pints",
    "celsius",
    "fahrenheit",
    "kelvin",
    "seconds",
    "minutes",
    "hours",
    "days",
    "weeks",
    "bytes",
    "kilobytes",
    "megabytes",
    "gigabytes",
    "joules",
    "calories",
    "watts",
    "horsepower",
    "bar",
    "psi",
    "knots",
    "mph",
    "acres",
    "hectares",
]
CONVERT = [
    "Convert {v} {a} to {b}.",
    "How many {b} are {v} {a}?",
    "What is {v} {a} in {b}?",
    "{v} {a} in {b}",
    "How many {b} is {v} {a}?",
    "convert {v} {a} into {b}",
    "Express {v} {a} in {b}.",
    "Please convert {v} {a} to {b}.",
    "I have {v} {a}, how many {b} is that?",
]
UNIT_ARGUMENTS = [
    ("value", "from", "to"),
    ("value", "from_unit", "to_unit"),
    ("amount", "source", "target"),
    ("quantity", "unit", "into"),
    ("number", "from_unit", "to_unit"),
    ("amount", "from", "to"),
    ("value", "source_unit", "target_unit"),
]
LOOKUP = [
    "What is the {t} of {x}?",
    "What is the {t} in {x}?",
    "Look up the {t} of {x}.",
    "Find the {t} for {x}.",
    "Show me the {t} of {x}.",
    "{t} {x}",
    "I need the {t} for {x}.",
    "Get the {t} of {x}.",
    "Can you find the {t} of {x}?",
    "Tell me the {t} in {x}.",
    "what's the {t} in {x}",
]
SEARCH = [
    "Search the {t} for {x}.",
    "Find {x} in the {t}.",
    "Look for {x} in the {t}.",
    "Is there {x} in the {t}?",
    "Search for {x} in the {t}.",
]
TOPICS = [
    "weather",
    "temperature",
    "forecast",
    "time",
    "price",
    "capital",
    "population",
    "status",
    "address",
    "phone",
    "email",
    "owner",
    "definition",
    "translation",
    "synonym",
    "stock",
    "balance",
    "schedule",
    "rating",
    "author",
    "version",
    "distance",
    "score",
    "height",
    "age",
    "news",
    "size",
    "salary",
    "location",
    "order",
    "ticket",
]
PLACES = [
    "Paris",
    "London",
    "Berlin",
    "Tokyo",
    "Madrid",
    "Rome",
    "Oslo",
    "Vienna",
    "Lisbon",
    "Dublin",
    "Prague",
    "Athens",
    "Cairo",
    "Lima",
    "Delhi",
    "Seoul",
    "Boston",
    "Chicago",
    "Toronto",
    "Sydney",
    "France",
    "Japan",
    "Brazil",
    "Canada",
    "Norway",
    "Kenya",
    "Peru",
    "Egypt",
    "India",
]


def number(rng: random.Random) -> str:
    """A number in the one form that JSON and people share."""
    whole = rng.choice([rng.randint(0, 20), rng.randint(2, 99), rng.randint(100, 999), rng.randint(1000, 99999)])
    return f"{whole}.{rng.choice([5, 25, 75, rng.randint(1, 9)])}" if rng.random() < 0.25 else str(whole)


def calculator(rng: random.Random, words: list[str]) -> Tool:
    name = rng.choice(
        ["calculator", "calculate", "calc", "eval_math", "compute", "math", "arithmetic", f"{rng.choice(words)}_calc"]
    )
    argument = rng.choice(["expression", "expression", "formula", "input", "expr", "query", rng.choice(words)])
    text = rng.choice(
        [
            "Evaluate an arithmetic expression.",
            "Calculate a formula.",
            "Do arithmetic.",
            "Compute the value of an expression.",
            "A calculator.",
        ]
    )
    return Tool(name, ((argument, "string"),), text, "calculate", ((argument, "expression"),))


def converter(rng: random.Random, words: list[str]) -> Tool:
    name = rng.choice(
        ["convert_units", "unit_converter", "convert", "units", "convert_unit", f"{rng.choice(words)}_convert"]
    )
    value, source, target = rng.choice(UNIT_ARGUMENTS)
    text = rng.choice(
        [
            "Convert a value from one unit to another.",
            "Convert units.",
            "Convert between units of measurement.",
            "Unit conversion.",
        ]
    )
    arguments = tuple(sorted([(value, "number"), (source, "string"), (target, "string")]))
    return Tool(name, arguments, text, "convert", ((value, "value"), (source, "from"), (target, "to")))


def lookup(rng: random.Random, words: list[str]) -> Tool:
    topic = (
        rng.choice(TOPICS)
        if rng.random() < 0.6
        else rng.choice([w for w in rng.sample(words, 3) if w not in ("convert", "calculate")])
    )
    search = rng.random() < 0.25
    name = rng.choice(
        ["search_{}", "find_{}", "search_{}", "{}_search"]
        if search
        else ["get_{}", "lookup_{}", "{}", "fetch_{}", "{}_lookup", "find_{}", "get_{}"]
    ).format(topic)
    argument = (
        rng.choice(["query", "query", "text", "keywords", "q"])
        if search
        else rng.choice(["name", "city", "query", "place", "key", "item", "location", "id", rng.choice(words)])
    )
    text = rng.choice(
        ["Search the {}.", "Full text search in the {}.", "Find something in the {}."]
        if search
        else [
            "Get the {} of something.",
            "Look up the {}.",
            "Get the {} for a name.",
            "Return the {}.",
            "Find the {} of a place.",
            "The current {}.",
        ]
    ).format(topic)
    arguments, roles = [(argument, "string")], [(argument, "subject")]
    if rng.random() < 0.15 and not search:
        extra = rng.choice(["days", "limit", "count", "year"])
        arguments.append((extra, "number"))
        roles.append((extra, "extra"))
    return Tool(name, tuple(sorted(arguments)), text, ("search " if search else "") + topic, tuple(roles))


def subject(rng: random.Random, words: list[str]) -> str:
    """What a look-up is about: a place, a name, a few words, an identifier."""
    roll = rng.random()
    if roll < 0.25:
        return rng.choice(PLACES)
    if roll < 0.5:
        return " ".join(rng.choice(words).capitalize() for _ in range(rng.randint(1, 2)))
    if roll < 0.85:
        return " ".join(rng.choice(words) for _ in range(rng.randint(1, 3)))
    return rng.choice(["{}-{}", "{}_{}", "{}{}"]).format(rng.choice(words), rng.randint(1, 999))


def result(rng: random.Random, words: list[str], key: str) -> tuple[str, tuple[tuple[str, bool], ...]]:
    """What a tool says, and the final answer that follows from it."""
    roll = rng.random()
    value = number(rng) if rng.random() < 0.5 else " ".join(rng.choice(words) for _ in range(rng.randint(1, 3)))
    quoted = value if value[0].isdigit() else f'"{value}"'
    if roll < 0.35:
        return f'{{"{key}": {quoted}}}', (("The ", False), (key, True), (" is ", False), (value, True), (".", False))
    if roll < 0.5:
        other, second = rng.choice(words), rng.choice([number(rng), rng.choice(words)])
        shown = second if second[0].isdigit() else f'"{second}"'
        return (
            f'{{"{key}": {quoted}, "{other}": {shown}}}',
            (
                ("The ", False),
                (key, True),
                (" is ", False),
                (value, True),
                (" and the ", False),
                (other, True),
                (" is ", False),
                (second, True),
                (".", False),
            ),
        )
    if roll < 0.6:
        reason = " ".join(rng.choice(words) for _ in range(rng.randint(2, 5)))
        return f"Error: {reason}", (("The tool failed", False), (": ", False), (reason, True), (".", False))
    if roll < 0.8 and value[0].isdigit():
        return value, (("The ", False), ("result is ", False), (value, True), (".", False))
    text = " ".join(rng.choice(words) for _ in range(rng.randint(2, 9))).capitalize() + rng.choice(
        ["", f" {number(rng)}"]
    )
    return text + ".", (("The tool says", False), (": ", False), (text, True), (".", False))


def tool_task(rng: random.Random, words: list[str], tool: Tool | None = None) -> ToolTask:
    """A question for a tool (a new one unless given), the right call, a result and the final answer."""
    if tool is None:
        tool = rng.choice([calculator, converter, converter, lookup, lookup])(rng, words)
    if tool.topic == "calculate":
        values, question, key = {}, "", "result"
        count = rng.choice([2, 2, 2, 2, 3])
        said = expression = number(rng)
        for _ in range(count - 1):
            sign, names = rng.choice(OPERATIONS)
            right = number(rng)
            expression, said = f"{expression} {sign} {right}", f"{said} {rng.choice(names)} {right}"
        roll = rng.random()
        if roll < 0.08:
            said, expression = f"{said}% of {right}", f"{said} / 100 * {right}"
            said = f"{(a := number(rng))}% of {right}"
            expression = f"{a} / 100 * {right}"
        elif roll < 0.16:
            said = expression = f"({expression}) {rng.choice('+-*/')} {number(rng)}"
        question = rng.choice(CALCULATE).format(said)
        values = {"expression": f'"{expression}"'}
    elif tool.topic == "convert":
        key = "result"
        source, target = (rng.choice(UNITS) if rng.random() < 0.5 else rng.choice(words) for _ in range(2))
        value = number(rng)
        question = rng.choice(CONVERT).format(v=value, a=source, b=target)
        values = {"value": value, "from": f'"{source}"', "to": f'"{target}"'}
    else:
        topic = tool.topic.removeprefix("search ")
        key, about = topic, subject(rng, words)
        question = rng.choice(SEARCH if tool.topic != topic else LOOKUP).format(t=topic, x=about)
        values = {"subject": f'"{about}"', "extra": str(rng.randint(1, 30))}
        extra = next((n for n, role in tool.roles if role == "extra"), "")
        if extra:
            question = (
                question.rstrip("?.") + f" for {extra} {values['extra']}"
                if rng.random() < 0.3
                else question.rstrip("?.") + f", {extra} {values['extra']}"
            )
    if rng.random() < 0.2:
        question = question[0].lower() + question[1:]
    roles = dict(tool.roles)
    called = tuple((name, values[roles[name]]) for name, _ in tool.arguments)
    answer, final = result(rng, words, key)
    if tool.topic in ("calculate", "convert") and rng.random() < 0.7:
        value = number(rng)
        answer, final = value, (("The ", False), ("result is ", False), (value, True), (".", False))
    return ToolTask(tool, question, called, answer, final)
