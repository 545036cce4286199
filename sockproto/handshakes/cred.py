"""
A user and a password, for whatever ``twisted.cred`` can ask.

Wire format: the client sends the user and a line feed, the password and a line feed. The server
answers ``OK`` and a line feed, and the session begins with the next byte; or it answers ``NO`` and
a line feed, and closes. Lines, because a password with a line feed is one that nobody can type, and
because every shell can write them.

The password crosses the network as it is, since that is what a checker wants to see. So there has
to be TLS. Loopback and unix sockets are no exception: what comes from there may have come through a
proxy from anywhere, and a rule without exceptions is one that can be checked. An operator who knows
better says ``insecure=yes``, on both sides.

A checker is called in the loop, and its Deferred awaited; or, if it blocks as Twisted's ``unix``
does, it is called in one of a few threads. Either way only so many may wait. Who is refused after a
thread has looked hears so at the next full half second, for a checker that hashes is quicker with a
user that it does not know.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache, partial
from hmac import compare_digest
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sockproto.core.arguments import Endpoint, Secret
from sockproto.core.errors import ConfigurationError
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer
from sockproto.handshakes._password import password_from
from sockproto.handshakes._watched import WatchedFile

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

MAX_USER = 256
MAX_PASSWORD = 1024

PASSWORD_BYTES = 32
"""Of the password that nobody has."""

GRANTED = b"OK\n"
DENIED = b"NO\n"

MAX_THREADS = 8
"""The reactor has ten, which also look up the names of hosts."""

PACE = 0.5
"""Seconds between the times at which a refusal that a thread has found is told."""

_THREADS = {"unix": 4}
"""The checkers of Twisted that block: it hashes, for as long as the system wants it to take."""


class Cred:
    """
    Accept whoever a checker of Twisted's knows.

    A server needs ``auth``; a client ``user`` and one of ``password``, ``password_file``, ``env``.

    Args:
        auth: A checker, as ``twistd --auth`` has it: ``file:PATH``, ``memory:USER:PASSWORD:...``,
            ``unix``, or one that a plug-in of Twisted's brings. Takes the rest, colons and all.
        user: Who the client is.
        password: The client's password itself.
        password_file: A file that holds it; one line ending at its end is not part of it.
        env: An environment variable that holds it.
        insecure: Whether to do without TLS.
        threads: How many checks may run at once, each in a thread; 0 calls the checker in the loop.
            Unless given, 4 for ``unix`` and 0 for any other.
        queue: How many logins may wait for their check; whoever comes then is refused.
        reactor: Whose threads and time are used; by default the global one's.

    Raises:
        ConfigurationError: If there is no such checker, or what is given does not make up a side.
    """

    def __init__(
        self,
        auth: Endpoint | None = None,
        *,
        user: str | None = None,
        password: Secret | None = None,
        password_file: Path | None = None,
        env: str | None = None,
        insecure: bool = False,
        threads: int | None = None,
        queue: int = 64,
        reactor: Any = None,
    ) -> None:
        self._insecure = insecure
        self._checker: Any = None
        self._said: bytes | None = None
        if auth is not None:
            kind, self._checker = _checker(auth)
            threads = _THREADS.get(kind, 0) if threads is None else threads
            if not 0 <= threads <= MAX_THREADS:
                raise ConfigurationError(f"cred takes 0 to {MAX_THREADS} threads, got {threads}")
            if queue < 1:
                raise ConfigurationError(f"cred needs a queue of 1 or more, got {queue}")
            self._checks = _InThreads(threads, queue, reactor) if threads else _InLoop(queue)
        if user is not None:
            self._said = _login(
                user, password_from("cred", "password", password, password_file, env)
            )
        elif (password, password_file, env) != (None, None, None):
            raise ConfigurationError("cred has a password, and nobody to whom it belongs: user=")
        elif auth is None:
            raise ConfigurationError(
                "cred needs a checker to serve, as in cred:file:PATH, or user= and a password to "
                "connect"
            )
        # Whoever starts a server without a checker is told then, and not by its first client.
        if auth is None:
            self.serve = None  # type: ignore[method-assign, assignment]
        if user is None:
            self.connect = None  # type: ignore[method-assign, assignment]

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Receive a user and a password, and say whether the checker knows them."""
        if peer.tls is None and not self._insecure:
            return Reject(DENIED, reason="no TLS: listen on tls:..., or set insecure=yes")
        user = await peer.receive_until(b"\n", max_bytes=MAX_USER)
        password = await peer.receive_until(b"\n", max_bytes=MAX_PASSWORD)
        if not user:
            return Reject(DENIED, reason="no user")
        if not password:
            # To a directory, a name without a password is somebody who does not say who he is, and
            # welcome (RFC 4513 section 5.1.2).
            return Reject(DENIED, reason="no password")
        credentials = _credentials()(user, password)
        checking = self._checks.start(partial(self._checker.requestAvatarId, credentials))
        if checking is None:
            return Reject(
                DENIED,
                reason=f"{self._checks.most} logins are being checked already; "
                "raise threads= or queue=",
            )
        # Not try and except: what is thrown into us is not the checker's.
        trouble, identity = await checking.addCallbacks(_found, _failed)
        if trouble is None:
            return Accept(GRANTED, identity=identity)
        await self._checks.pace()
        return Reject(DENIED, reason=trouble)

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Send user and password and see whether the server takes them."""
        assert self._said is not None
        if peer.tls is None and not self._insecure:
            return Reject(
                reason="a password is not sent without TLS: connect to tls:..., or set insecure=yes"
            )
        peer.send(self._said)
        if await peer.expect(GRANTED):
            return Accept()
        if await peer.expect(DENIED):
            return Reject(reason="wrong user or password, or the server is too busy to look")
        return Reject(reason="that is not a cred server")


class _InLoop:
    """Checks that run in the loop: so many at once, and no more."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._running = 0

    def start(self, check: Callable[[], Any]) -> Deferred[Any] | None:
        """Start a check; None if there are too many."""
        from twisted.internet.defer import maybeDeferred

        if self._running >= self.most:
            return None
        self._running += 1
        return maybeDeferred(check).addBoth(self._end)

    async def pace(self) -> None:
        """Wait until a refusal may be told: here it may at once."""

    def _end(self, result: object) -> object:
        self._running -= 1
        return result


class _InThreads:
    """Checks that run in threads: so many at once, so many waiting, and no more."""

    def __init__(self, threads: int, queue: int, reactor: Any) -> None:
        self.most = threads + queue
        self._idle = threads
        self._queue = queue
        self._reactor = reactor
        self._waiting: deque[tuple[Deferred[Any], Callable[[], Any]]] = deque()

    def start(self, check: Callable[[], Any]) -> Deferred[Any] | None:
        """Start a check, or have it wait for its turn; None if there are too many."""
        from twisted.internet.defer import Deferred

        if not self._idle and len(self._waiting) >= self._queue:
            return None
        # A check that has begun cannot be stopped, and keeps its thread until it is done, also if
        # nobody wants to know any more. So the Deferred that may be cancelled is another one.
        told: Deferred[Any] = Deferred(self._leave)
        self._waiting.append((told, check))
        self._next()
        return told

    async def pace(self) -> None:
        """Wait until a refusal may be told."""
        from twisted.internet.task import deferLater

        reactor = self._clock()
        await deferLater(reactor, PACE - reactor.seconds() % PACE, lambda: None)

    def _next(self) -> None:
        from twisted.internet.threads import deferToThreadPool

        while self._idle and self._waiting:
            self._idle -= 1
            told, check = self._waiting.popleft()
            reactor = self._clock()
            # In a tuple: it may be a Deferred, which is to fire in the loop.
            done = deferToThreadPool(reactor, reactor.getThreadPool(), _in_tuple, check)
            done.addCallback(lambda made: made[0])
            done.addBoth(self._end, told)

    def _end(self, result: Any, told: Deferred[Any]) -> None:
        self._idle += 1
        if not told.called:
            told.callback(result)
        self._next()

    def _leave(self, told: Deferred[Any]) -> None:
        self._waiting = deque(each for each in self._waiting if each[0] is not told)

    def _clock(self) -> Any:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor


def _in_tuple(check: Callable[[], Any]) -> tuple[Any]:
    return (check(),)


def _found(avatar: object) -> tuple[str | None, str | None]:
    """Who a checker says that it is; or why it is nobody."""
    if isinstance(avatar, bytes):
        return None, avatar.decode("utf-8", "backslashreplace")
    if isinstance(avatar, str):
        return None, avatar
    if avatar == ():
        # Twisted's ANONYMOUS: let in, and nobody in particular.
        return None, None
    return f"the checker answered with a {type(avatar).__name__}, expected an avatar's id", None


def _failed(failure: Any) -> tuple[str, None]:
    from twisted.cred.error import LoginFailed

    if failure.check(LoginFailed):
        return "wrong user or password", None
    # Only the type: its words may hold the password.
    return f"the checker broke: {failure.type.__name__}", None


def _checker(auth: str) -> tuple[str, Any]:
    """The checker that a string asks for, and what kind of one it is."""
    from twisted.cred.checkers import FilePasswordDB
    from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse as InMemory
    from twisted.cred.credentials import IUsernamePassword
    from twisted.cred.strcred import findCheckerFactories

    kind, _, argument = auth.partition(":")
    factories = {
        each.authType: each
        for each in findCheckerFactories()
        if IUsernamePassword in each.credentialInterfaces
    }
    if kind not in factories:
        raise ConfigurationError(
            f"cred knows no checker {kind!r} that takes a user and a password; "
            f"there are {', '.join(sorted(factories))}"
        )
    if kind == "file":
        argument = _readable(argument)
    if kind == "unix" and find_spec("crypt") is None:
        raise ConfigurationError(
            "cred cannot check unix passwords: Python has no crypt module since 3.13; use a file"
        )
    try:
        checker = factories[kind].generateChecker(argument)
    except Exception as error:
        raise ConfigurationError(
            f"cred cannot make the checker {kind!r}: {type(error).__name__}; "
            f"it takes: {factories[kind].argStringFormat}"
        ) from None
    if isinstance(checker, InMemory):
        # Its plug-in fills it with text, and what comes from a network is bytes.
        checker.users = {_bytes(name): _bytes(word) for name, word in checker.users.items()}
    if isinstance(checker, FilePasswordDB):
        checker.getUser = _users_of(argument)  # type: ignore[method-assign, assignment]
    return kind, checker


def _users_of(path: str) -> Callable[[bytes], tuple[bytes, bytes]]:
    """
    What looks up a user in Twisted's file of passwords.

    Its own search reads the file at each login, up to the user: it stops the loop, and tells by
    its time who is there.
    """
    file = WatchedFile(Path(path), _parse_users)
    # So that a stranger's is compared as well.
    nobodys = os.urandom(PASSWORD_BYTES)
    return lambda user: (user, file.current().get(user, nobodys))


def _parse_users(data: bytes) -> Mapping[bytes, bytes]:
    """From users to passwords, as Twisted reads the lines: the first one counts."""
    users: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        user, *fields = line.rstrip().split(b":")
        if fields:
            users.setdefault(user, fields[0])
    return users


def _readable(path: str) -> str:
    """The path of a file that can be read, wherever the working directory may be later."""
    try:
        # Not blocking: to open a pipe would wait for somebody who writes to it.
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return os.path.abspath(path)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"cred cannot read {path or 'its file'}: {said}") from error


@cache
def _credentials() -> Any:
    from twisted.cred.credentials import UsernamePassword

    class Credentials(UsernamePassword):
        """A user and a password, compared in constant time and never shown."""

        def checkPassword(self, password: bytes | str) -> bool:
            return compare_digest(self.password, _bytes(password))

    return Credentials


def _login(user: str, password: bytes) -> bytes:
    name = user.encode("utf-8", "surrogateescape")
    for what, word, most in (("user", name, MAX_USER), ("password", password, MAX_PASSWORD)):
        if not word or b"\n" in word or len(word) > most:
            raise ConfigurationError(
                f"cred needs a {what} of 1 to {most} bytes without a line feed, "
                f"got {len(word)} bytes"
            )
    return name + b"\n" + password + b"\n"


def _bytes(text: bytes | str) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text
