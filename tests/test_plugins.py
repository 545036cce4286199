"""How a name becomes a handshake or a session, and what is said when it does not."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogLevel, capturedLogs, formatEvent

from sockproto import (
    Accept,
    ConfigurationError,
    Endpoint,
    Exchange,
    Peer,
    Secret,
    UnknownHandshake,
    UnknownSession,
)
from sockproto.core.arguments import SECRET
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.plugins import (
    Blueprint,
    Description,
    chain_blueprint,
    describe_handshakes,
    describe_sessions,
    handshake_blueprint,
    handshake_from_string,
    look_in_working_directory,
    session_blueprint,
    session_from_string,
)
from sockproto.sessions.discard import Discard
from sockproto.sessions.echo import Echo

HERE = __name__
CANARY = "sesame4711"

BUILT_IN = [
    "welcome",
    "passphrase",
    "token",
    "challenge",
    "scram",
    "cred",
    "certificate",
    "jwt",
    "negotiate",
    "none",
    "chain",
]


# What other people write: handshakes and sessions that the strings below name.


class Plain:
    async def serve(self, peer: Peer) -> Accept:
        return Accept()


class Typed(Plain):
    """
    Take one of each.

    And a second paragraph.
    """

    def __init__(
        self,
        text: str = "",
        data: bytes = b"",
        count: int = 0,
        rate: float = 0.0,
        loud: bool = False,
        file: Path | None = None,
        bare="",
    ) -> None:
        self.text, self.data, self.count, self.rate = text, data, count, rate
        self.loud, self.file, self.bare = loud, file, bare


class ByName(Plain):
    def __init__(self, *words: str, count: int, loud: bool = False, **more: str) -> None:
        self.words, self.count, self.loud, self.more = words, count, loud, more


class ByPlace(Plain):
    def __init__(self, first: str, second: str = "two", /, third: str = "three") -> None:
        self.all = first, second, third


class Forward(Plain):
    def __init__(self, target: Endpoint, tries: int = 1) -> None:
        self.target, self.tries = target, tries


class Fallback(Plain):
    def __init__(self, tries: int = 1, target: Endpoint | None = None) -> None:
        self.tries, self.target = tries, target


class Safe(Plain):
    def __init__(self, pin: Annotated[int | None, SECRET] = None, depth: int = 1) -> None:
        self.pin, self.depth = pin, depth


class Stubborn(Plain):
    def __init__(self, word: Secret = b"", hint: str = "") -> None:
        raise ValueError(f"no use for {word!r}\n   and {hint!r}")


class Choosy(Plain):
    def __init__(self, word: Secret) -> None:
        raise ConfigurationError("choosy wants a word of seven letters")


class Speechless(Plain):
    def __init__(self) -> None:
        raise RuntimeError


class Needy(Plain):
    def __init__(self, database: dict[str, int]) -> None:
        self.database = database


class Wishful(Plain):
    def __init__(self, word: bytes = b"", hook: int | str | None = None) -> None:
        self.word, self.hook = word, hook


class Dangling(Plain):
    def __init__(self, word: Nowhere) -> None:  # noqa: F821
        self.word = word


class Neither:
    pass


class Outer:
    class Inner(Plain):
        pass


class Moody:
    @property
    def serve(self) -> None:
        raise OSError("not today")


def make(word: bytes = b"made") -> Plain:
    """Make one."""
    made = Plain()
    made.word = word
    return made


def make_nothing() -> None:
    return None


finished = Plain()
moody = Moody()
number = 42


class Chat(Protocol):
    def __init__(self, room: str = "hall", key: Secret = b"") -> None:
        self.room, self.key = room, key


class Rooms(Factory[Chat]):
    protocol = Chat

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit


rooms = Rooms()


def choose_protocol() -> type[Protocol]:
    return Chat


class Site:
    """Directories on ``sys.path`` with modules and distributions in them, as pip leaves them."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path, self._monkeypatch, self._count = path, monkeypatch, 0

    def install(
        self,
        name: str = "shop",
        handshakes: str = "",
        sessions: str = "",
        modules: dict[str, str] | None = None,
        metadata: bytes | None = None,
        entry_points: str | None = None,
    ) -> None:
        """Install a distribution; the one installed last comes first on ``sys.path``."""
        self._count += 1
        root = self._path / str(self._count)
        info = root / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_bytes(metadata or f"Name: {name}\nVersion: 1.0\n".encode())
        groups = f"[sockproto.handshakes]\n{handshakes}\n[sockproto.sessions]\n{sessions}\n"
        (info / "entry_points.txt").write_text(groups if entry_points is None else entry_points)
        for module, source in (modules or {}).items():
            file = root / f"{module.replace('.', '/')}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(source)
        self._monkeypatch.syspath_prepend(root)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    before = set(sys.modules)
    yield Site(tmp_path, monkeypatch)
    for name in set(sys.modules) - before:
        del sys.modules[name]


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect the lines that are logged, all of which have to be warnings."""
    lines: list[str] = []
    with capturedLogs() as events:
        yield lines
    for event in events:
        assert event["log_level"] is LogLevel.warn
        assert event["log_namespace"] == "sockproto.plugins"
        lines.append(formatEvent(event))


def complaint(text: str, understand: Callable[[str], object] = handshake_from_string) -> str:
    """Give the words of the error that a plug-in string earns."""
    with pytest.raises(ConfigurationError) as caught:
        understand(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def field(text: str, name: str) -> Any:
    """Build a handshake and look at what its constructor was given."""
    return getattr(handshake_from_string(f"{HERE}:{text}"), name)


# Names.


def test_a_built_in_handshake_is_known_by_its_name():
    assert isinstance(handshake_from_string("welcome"), Welcome)
    assert isinstance(handshake_from_string("passphrase:sesame"), Passphrase)


def test_a_built_in_session_is_a_factory_of_its_protocol():
    echo, discard = session_from_string("echo"), session_from_string("discard")

    assert isinstance(echo.buildProtocol(None), Echo)
    assert isinstance(discard.buildProtocol(None), Discard)
    assert IProtocolFactory.providedBy(echo)


def test_a_class_is_named_by_its_module_and_attribute():
    assert isinstance(handshake_from_string(f"{HERE}:Plain"), Plain)


def test_an_attribute_may_have_dots():
    assert isinstance(handshake_from_string(f"{HERE}:Outer.Inner"), Outer.Inner)


def test_a_function_is_called_with_the_arguments():
    assert field("make", "word") == b"made"
    assert field("make:other", "word") == b"other"


def test_a_finished_object_is_taken_as_it_is():
    assert handshake_from_string(f"{HERE}:finished") is finished


def test_a_finished_object_takes_no_arguments():
    assert complaint(f"{HERE}:finished:now") == f"handshake '{HERE}:finished' takes no arguments"


def test_an_entry_point_is_known_by_its_name(site):
    site.install(handshakes="toy = toys:Toy", modules={"toys": TOY})

    toy = handshake_from_string("toy:red")

    assert type(toy).__name__ == "Toy"
    assert toy.colour == "red"


def test_an_entry_point_may_name_a_session(site):
    site.install(
        sessions="quiet = quiet:Quiet",
        modules={"quiet": "from sockproto.sessions.discard import Discard as Quiet"},
    )

    assert isinstance(session_from_string("quiet").buildProtocol(None), Discard)


def test_an_entry_point_wins_over_a_module_of_that_name(site):
    site.install(handshakes="toys = toys:Toy", modules={"toys": TOY})

    assert handshake_from_string("toys:Toy").colour == "Toy"


def test_a_built_in_wins_without_a_look_at_any_entry_point(site):
    site.install(handshakes="welcome = toys:Toy", modules={"toys": TOY})

    with logged() as lines:
        assert isinstance(handshake_from_string("welcome"), Welcome)

    assert lines == []


TOY = '''
class Toy:
    """Play."""
    def __init__(self, colour: str = "blue"):
        self.colour = colour
    async def connect(self, peer): ...
'''


def test_a_module_in_the_working_directory_is_found_once_we_look_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])

    look_in_working_directory()
    look_in_working_directory()

    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[0] == str(tmp_path)


def test_a_path_that_begins_with_the_working_directory_is_left_alone(monkeypatch):
    path = ["", *sys.path]
    monkeypatch.setattr(sys, "path", path.copy())

    look_in_working_directory()

    assert sys.path == path


# Names that lead nowhere.


def test_an_unknown_handshake_is_answered_with_the_known_ones_and_a_guess():
    with pytest.raises(UnknownHandshake) as caught:
        handshake_from_string("passphrse")

    assert str(caught.value) == (
        f"unknown handshake 'passphrse': the known ones are {', '.join(BUILT_IN)}, "
        "or give module:attribute; did you mean 'passphrase'?"
    )


def test_an_unknown_session_is_answered_with_the_known_ones_and_a_guess():
    with pytest.raises(UnknownSession) as caught:
        session_from_string("ehco")

    assert str(caught.value) == (
        "unknown session 'ehco': the known ones are echo, discard, forward, "
        "or give module:attribute; did you mean 'echo'?"
    )


def test_the_known_ones_include_the_entry_points(site):
    site.install(handshakes="zebra = toys:Toy\nant = toys:Toy", modules={"toys": TOY})

    assert complaint("zebar") == (
        f"unknown handshake 'zebar': the known ones are {', '.join(BUILT_IN)}, ant, zebra, "
        "or give module:attribute; did you mean 'zebra'?"
    )


def test_a_module_that_does_not_exist_is_told_without_the_attribute():
    with pytest.raises(UnknownHandshake) as caught:
        handshake_from_string(f"no_such.module:{CANARY}")

    assert str(caught.value) == (
        "unknown handshake 'no_such.module' (no module named 'no_such'): the known ones are "
        f"{', '.join(BUILT_IN)}, or give module:attribute"
    )


def test_an_attribute_that_does_not_exist_is_not_repeated():
    with pytest.raises(UnknownHandshake) as caught:
        handshake_from_string(f"keyword:{CANARY}")

    assert str(caught.value) == (
        "unknown handshake 'keyword' (module 'keyword' has no such attribute): the known ones are "
        f"{', '.join(BUILT_IN)}, or give module:attribute"
    )


def test_a_name_that_no_module_can_have_is_not_imported():
    assert complaint("..:x").startswith("unknown handshake '..': ")
    assert complaint("a-b:x").startswith("unknown handshake 'a-b': ")


def test_a_module_whose_own_import_fails_is_not_called_missing(site):
    site.install(modules={"fragile": "import no_such_dependency"})

    assert complaint("fragile:Handshake") == (
        "handshake module 'fragile' exists, but cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_dependency'"
    )


def test_a_module_that_exits_when_imported_does_not_take_us_along(site):
    site.install(modules={"script": "import sys; sys.exit('bye')"})

    assert complaint("script:main") == (
        "handshake module 'script' exists, but cannot be imported: SystemExit: bye"
    )


def test_a_module_that_raises_over_an_attribute_is_told_by_type(site):
    site.install(modules={"lazy": "def __getattr__(name): raise OSError(name)"})

    assert complaint(f"lazy:{CANARY}") == "handshake module 'lazy' raised OSError over an attribute"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"passphrase={CANARY}", "'passphrase='..."),
        (f"passphrase {CANARY}", "'passphrase '..."),
        (f"passphrase\n{CANARY}", "'passphrase\\n'..."),
        (f":{CANARY}", "':'..."),
        ("", "''..."),
    ],
)
def test_what_does_not_start_with_a_name_and_a_colon_is_refused(text, shown):
    assert complaint(text) == f"expected a handshake as NAME:ARG:key=value, got {shown}"


# Things that are not plug-ins.


def test_a_value_is_no_handshake():
    assert complaint(f"{HERE}:number") == (
        f"handshake '{HERE}:number' is something of type int, which has neither serve nor connect"
    )


def test_what_a_call_gives_has_to_be_a_handshake():
    assert complaint(f"{HERE}:Neither") == (
        f"handshake '{HERE}:Neither' made something of type Neither, "
        "which has neither serve nor connect"
    )
    assert complaint(f"{HERE}:make_nothing").endswith(
        "made something of type NoneType, which has neither serve nor connect"
    )


def test_a_class_is_no_handshake_even_if_its_instances_are():
    assert complaint(f"{HERE}:choose_protocol").endswith(
        "made something of type type, which has neither serve nor connect"
    )


def test_what_a_call_gives_has_to_be_a_session():
    assert complaint(f"{HERE}:make", session_from_string) == (
        f"session '{HERE}:make' made something of type Plain, which is neither a Protocol class "
        "nor a factory with buildProtocol, doStart and doStop"
    )


def test_an_object_that_cannot_be_looked_at_is_refused():
    assert complaint(f"{HERE}:moody") == (
        f"handshake '{HERE}:moody' cannot be used: OSError: not today"
    )


def test_a_callable_whose_parameters_cannot_be_known_is_refused():
    assert complaint("builtins:dict").startswith(
        "handshake 'builtins:dict' cannot be used: ValueError: no signature found"
    )


def test_an_annotation_that_leads_nowhere_is_refused():
    assert complaint(f"{HERE}:Dangling:x") == (
        f"handshake '{HERE}:Dangling' cannot be used: NameError: name 'Nowhere' is not defined"
    )


# Sessions.


@pytest.mark.parametrize("session", ["Chat", "Chat:attic"])
def test_a_factory_that_was_made_for_a_protocol_class_says_nothing_in_the_log(
    session: str,
) -> None:
    factory = session_from_string(f"{HERE}:{session}")

    with capturedLogs() as events:
        factory.doStart()
        factory.doStop()

    assert events == []


def test_a_protocol_class_becomes_a_factory_for_it():
    factory = session_from_string(f"{HERE}:Chat")

    assert type(factory) is Factory
    assert factory.protocol is Chat


def test_every_protocol_of_a_class_is_made_with_the_arguments():
    factory = session_from_string(f"{HERE}:Chat:attic")

    first, second = factory.buildProtocol(None), factory.buildProtocol(None)

    assert (first.room, second.room) == ("attic", "attic")
    assert first is not second
    assert first.factory is factory


def test_a_factory_class_is_called():
    assert session_from_string(f"{HERE}:Rooms").limit == 8
    assert session_from_string(f"{HERE}:Rooms:limit=3").limit == 3


def test_a_finished_factory_is_taken_as_it_is():
    assert session_from_string(f"{HERE}:rooms") is rooms


def test_a_function_may_give_a_protocol_class():
    factory = session_from_string(f"{HERE}:choose_protocol")

    assert isinstance(factory.buildProtocol(None), Chat)


# Arguments. How they are read is told in test_signatures.py.


def test_the_arguments_of_a_string_are_what_the_constructor_gets():
    welcome = handshake_from_string(r"welcome:a\:b:goodbye=x")

    assert (welcome.token, welcome.welcome, welcome.goodbye) == (
        b"a:b",
        b"welcome to server!",
        b"x",
    )


def test_arguments_that_do_not_fit_are_refused_by_the_name_of_the_plug_in():
    assert complaint("welcome:1:2:3:4") == (
        "handshake 'welcome' takes at most 3 arguments without a name; "
        "write welcome[:TOKEN][:welcome=TEXT][:goodbye=TEXT]"
    )
    assert complaint("echo:colour=red", session_from_string) == (
        "session 'echo' takes no arguments"
    )
    assert complaint(f"{HERE}:Needy:x") == (
        f"handshake '{HERE}:Needy' cannot be used: "
        "its argument 'database' cannot be written in a string"
    )


# Constructors that fail.


def test_a_configuration_error_keeps_its_words():
    assert complaint("passphrase") == "passphrase needs one of a word, file=PATH or env=NAME"
    assert complaint(f"{HERE}:Choosy:x") == "choosy wants a word of seven letters"


def test_another_error_is_named_in_one_line_and_chained():
    with pytest.raises(ConfigurationError) as caught:
        handshake_from_string(f"{HERE}:Stubborn:hint=me")

    assert str(caught.value) == (
        f"handshake '{HERE}:Stubborn' cannot be made: ValueError: no use for b'' and 'me'"
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_without_words_is_named_by_its_type():
    assert complaint(f"{HERE}:Speechless") == (
        f"handshake '{HERE}:Speechless' cannot be made: RuntimeError"
    )


# Blueprints.


def test_a_blueprint_calls_the_constructor_only_when_it_is_built():
    blueprint = handshake_blueprint(f"{HERE}:Speechless")

    assert (blueprint.name, blueprint.exposed) == (f"{HERE}:Speechless", ())
    with pytest.raises(ConfigurationError):
        blueprint.build()


def test_a_blueprint_converts_the_arguments_at_once():
    assert complaint(f"{HERE}:Typed:count=x", handshake_blueprint).endswith("got 'x'")


def test_a_blueprint_tells_which_secrets_stand_in_the_string():
    assert handshake_blueprint("passphrase:sesame").exposed == ("word",)
    assert handshake_blueprint("passphrase:word=sesame").exposed == ("word",)
    assert handshake_blueprint("passphrase:file=/etc/motd").exposed == ()
    assert handshake_blueprint("welcome:1").exposed == ()
    assert session_blueprint(f"{HERE}:Chat:attic:sesame").exposed == ("key",)


def test_a_blueprint_builds_anew_every_time():
    blueprint = handshake_blueprint("welcome:2")

    assert blueprint.build() is not blueprint.build()
    assert blueprint.build().token == b"2"


def test_a_blueprint_does_not_change():
    with pytest.raises(AttributeError):
        handshake_blueprint("welcome").name = "other"


# Listings.


def test_the_built_in_ones_are_described():
    assert describe_handshakes()[:2] == [
        Description(
            "welcome",
            "welcome[:TOKEN][:welcome=TEXT][:goodbye=TEXT]",
            "Welcome whoever sends the token, and ask all others out.",
        ),
        Description(
            "passphrase",
            "passphrase[:WORD][:file=PATH][:env=TEXT]",
            "Accept whoever knows the word.",
        ),
    ]
    assert [found.name for found in describe_handshakes()] == BUILT_IN
    assert [(found.name, found.usage) for found in describe_sessions()] == [
        ("echo", "echo"),
        ("discard", "discard"),
        (
            "forward",
            "forward[:connect_timeout=NUMBER][:close_timeout=NUMBER][:proxy=TEXT]:ENDPOINT",
        ),
    ]


def test_third_party_ones_are_described_after_the_built_in_ones_and_by_name(site):
    names = ["Typed", "ByName", "ByPlace", "Forward", "Fallback", "Wishful", "make", "finished"]
    lines = "\n".join(f"{name.lower()} = {HERE}:{name}" for name in names)
    site.install(handshakes=lines)

    assert describe_handshakes()[len(BUILT_IN) :] == [
        Description("byname", "byname:count=INT[:loud=on|off]", ""),
        Description("byplace", "byplace:FIRST[:SECOND][:third=TEXT]", ""),
        Description("fallback", "fallback[:TRIES][:target=ENDPOINT]", ""),
        Description("finished", "finished", ""),
        Description("forward", "forward[:tries=INT]:TARGET", ""),
        Description("make", "make[:WORD]", "Make one."),
        Description(
            "typed",
            "typed[:TEXT][:data=TEXT][:count=INT][:rate=NUMBER][:loud=on|off][:file=PATH]"
            "[:bare=TEXT]",
            "Take one of each.",
        ),
        Description("wishful", "wishful[:WORD]", ""),
    ]


def test_an_inherited_docstring_is_not_a_summary(site):
    site.install(sessions=f"chat = {HERE}:Chat")

    assert describe_sessions()[3:] == [Description("chat", "chat[:ROOM][:key=TEXT]", "")]


def test_a_docstring_that_is_no_string_is_not_a_summary(site):
    source = f"{TOY}\nclass Odd(Toy):\n    __doc__ = 42\n"
    site.install(handshakes="odd = toys:Odd", modules={"toys": source})

    assert describe_handshakes()[len(BUILT_IN) :] == [Description("odd", "odd[:COLOUR]", "")]


# Distributions that are broken.


def test_a_broken_plug_in_is_one_log_line_and_takes_no_other_one_down(site):
    site.install(
        handshakes=f"broken = fragile:Handshake\nnumber = {HERE}:number\ntoy = toys:Toy",
        modules={"toys": TOY, "fragile": "raise RuntimeError('two\\nlines')"},
    )

    with logged() as lines:
        found = describe_handshakes()

    assert [each.name for each in found] == [*BUILT_IN, "toy"]
    assert lines == [
        "entry point 'broken' of distribution 'shop' is left out: "
        "handshake 'broken' cannot be imported: RuntimeError: two lines",
        "entry point 'number' of distribution 'shop' is left out: "
        "handshake 'number' is something of type int, which has neither serve nor connect",
    ]


def test_a_broken_plug_in_that_is_asked_for_is_an_error(site):
    site.install(
        handshakes="broken = fragile:Handshake", modules={"fragile": "raise RuntimeError('no')"}
    )

    with pytest.raises(ConfigurationError) as caught:
        handshake_from_string("broken")

    assert str(caught.value) == "handshake 'broken' cannot be imported: RuntimeError: no"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_broken_plug_in_is_not_loaded_for_the_sake_of_another_one(site):
    site.install(
        handshakes="broken = fragile:Handshake\ntoy = toys:Toy",
        modules={"toys": TOY, "fragile": "raise RuntimeError"},
    )

    with logged() as lines:
        handshake_from_string("toy")

    assert lines == []


def test_an_entry_point_with_the_name_of_a_built_in_is_ignored_and_logged(site):
    site.install(handshakes="welcome = toys:Toy\ntoy = toys:Toy", modules={"toys": TOY})

    with logged() as lines:
        found = describe_handshakes()

    assert [each.name for each in found] == [*BUILT_IN, "toy"]
    assert found[0].summary.startswith("Welcome whoever")
    assert lines == [
        "entry point 'welcome' of distribution 'shop' is left out: that handshake is built in"
    ]


def test_the_first_of_two_entry_points_with_one_name_wins(site):
    site.install("later", handshakes="toy = no_such_module:Toy")
    site.install("sooner", handshakes="toy = toys:Toy", modules={"toys": TOY})

    with logged() as lines:
        assert handshake_from_string("toy").colour == "blue"

    assert lines == [
        "entry point 'toy' of distribution 'later' is left out: "
        "distribution 'sooner' has a handshake of that name"
    ]


def test_a_distribution_that_is_found_twice_is_not_worth_a_word(site):
    site.install(handshakes="toy = toys:Toy", modules={"toys": TOY})
    site.install(handshakes="toy = toys:Toy")

    with logged() as lines:
        assert handshake_from_string("toy").colour == "blue"

    assert lines == []


def test_unreadable_entry_points_are_one_log_line_and_take_no_other_ones_down(site):
    site.install("good", handshakes="toy = toys:Toy", modules={"toys": TOY})
    site.install("bad", entry_points="[console_scripts]\nno equals sign\n")

    with logged() as lines:
        assert handshake_from_string("toy").colour == "blue"

    assert len(lines) == 1
    assert lines[0].startswith("the entry points of distribution 'bad' are left out: TypeError")


def test_a_distribution_whose_name_is_unreadable_is_logged_without_it(site):
    site.install(handshakes="welcome = toys:Toy", metadata=b"Name: \xff\n")

    with logged() as lines:
        describe_handshakes()

    assert lines == [
        "entry point 'welcome' of a distribution without a name is left out: "
        "that handshake is built in"
    ]


def test_a_built_in_that_cannot_be_imported_is_left_out_of_the_listing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sockproto.handshakes.passphrase", None)

    with logged() as lines:
        found = describe_handshakes()

    assert [each.name for each in found] == [each for each in BUILT_IN if each != "passphrase"]
    assert len(lines) == 1
    assert lines[0].startswith("entry point 'passphrase' of sockproto is left out: ")


# Secrets.


@pytest.mark.parametrize(
    "text",
    [
        f"passphrse:{CANARY}",
        f"passphrase={CANARY}",
        f"passphrase;{CANARY}",
        f"keyword:{CANARY}",
        f"keyword:main.{CANARY}",
        f"sys:{CANARY}:{CANARY}",
        f"no_such:{CANARY}:word={CANARY}",
        f"passphrase:word={CANARY}:word={CANARY}",
        f"passphrase:{CANARY}:word={CANARY}",
        f"passphrase:{CANARY}:x:y:z",
        f"passphrase:x:y:z:{CANARY}",
        f"passphrase:x:y:z:{CANARY}==",
        f"passphrase:{CANARY}\\",
        f"passphrase:{CANARY}\n",
        f"passphrase:{CANARY}:file=/etc/motd",
        f"passphrase:{CANARY * 200}",
        f"passphrase:{CANARY}\ud800",
        f"{HERE}:Safe:{CANARY}",
        f"{HERE}:Safe:1:{CANARY}",
        f"{HERE}:Safe:depth={CANARY}",
        f"{HERE}:Stubborn:{CANARY}",
        f"{HERE}:Choosy:{CANARY}",
        f"{HERE}:Choosy:{CANARY}:{CANARY}",
        f"{HERE}:finished:{CANARY}",
        f"{HERE}:number:{CANARY}",
        f"{HERE}:Needy:{CANARY}",
        f"{HERE}:Neither:{CANARY}",
    ],
)
def test_a_secret_is_never_in_an_error_nor_in_its_traceback(text):
    with logged() as lines, pytest.raises(ConfigurationError) as caught:
        handshake_from_string(text)

    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert CANARY not in "".join(lines)


def test_the_words_of_an_error_over_a_secret_are_withheld():
    assert complaint(f"{HERE}:Stubborn:{CANARY}") == (
        f"handshake '{HERE}:Stubborn' cannot be made: ValueError, "
        "whose words are withheld since they may tell word"
    )


@pytest.mark.parametrize(
    "blueprint",
    [
        handshake_blueprint(f"passphrase:{CANARY}"),
        session_blueprint(f"{HERE}:Chat:attic:{CANARY}"),
    ],
)
def test_a_secret_is_never_shown_by_a_blueprint_nor_by_what_it_builds(blueprint: Blueprint[Any]):
    shown = [repr(blueprint), str(blueprint), blueprint.name, repr(blueprint.exposed)]
    built = blueprint.build()
    shown += [repr(built), str(built), repr(getattr(built, "protocol", None))]

    assert CANARY not in "".join(shown)


def test_a_secret_by_default_is_never_in_a_listing(site):
    source = (
        "from sockproto import Secret\n"
        "class Toy:\n"
        f"    def __init__(self, word: Secret = {CANARY!r}.encode()): ...\n"
        "    async def serve(self, peer): ...\n"
    )
    site.install(handshakes="toy = toys:Toy", modules={"toys": source})

    assert CANARY not in repr(describe_handshakes())


# What is imported.


def test_neither_a_handshake_nor_the_listing_imports_a_reactor():
    program = (
        "import sys\n"
        "from sockproto.plugins import *\n"
        "handshake_from_string('passphrase:sesame'), session_from_string('echo')\n"
        "describe_handshakes(), describe_sessions()\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_built_in_handshake_imports_no_twisted():
    program = (
        "import sys\n"
        "from sockproto.plugins import handshake_from_string\n"
        "handshake_from_string('welcome')\n"
        "assert not [name for name in sys.modules if name.startswith('twisted')]\n"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Several at once.


def outcome_of(handshake: Any, data: bytes) -> Any:
    exchange = Exchange(handshake.serve)
    exchange.receive_data(data)
    return exchange.outcome


@pytest.mark.parametrize(
    "make",
    [
        lambda: handshake_from_string(r"chain:passphrase\:open\\\:it:passphrase\:sesame"),
        lambda: chain_blueprint([r"passphrase:open\:it", "passphrase:sesame"]).build(),
        lambda: chain_blueprint([r"chain:passphrase\:open\\\:it", "passphrase:sesame"]).build(),
    ],
)
def test_several_strings_are_a_chain(make):
    handshake = make()

    assert isinstance(handshake, Chain)
    assert outcome_of(handshake, b"open:it\nsesame\n") == Accept(b"OK\n")


def test_one_string_is_no_chain():
    assert chain_blueprint(["passphrase:sesame"]).name == "passphrase"
    assert isinstance(handshake_from_string(r"chain:passphrase\:sesame"), Passphrase)


def test_a_chain_tells_which_secrets_its_links_have_exposed():
    blueprint = handshake_blueprint(rf"chain:passphrase\:{CANARY}:none:passphrase\:{CANARY}")

    assert (blueprint.name, blueprint.exposed) == ("chain", ("word", "word"))
    assert CANARY not in repr(blueprint)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "chain",
            "chain needs the handshakes that it consists of, "
            r"like chain:passphrase\:file=word:negotiate",
        ),
        ("chain:", "expected a handshake as NAME:ARG:key=value, got ''..."),
        ("chain:none:", "expected a handshake as NAME:ARG:key=value, got ''..."),
        ("chain:none\\:x:none", "handshake 'none' takes no arguments"),
    ],
)
def test_a_chain_of_something_else_is_refused(text, told):
    with pytest.raises(ConfigurationError) as caught:
        handshake_from_string(text)

    assert str(caught.value) == told
