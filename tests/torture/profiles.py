"""Profiles while everything fails: kills between learned texts, a full disk, a damaged file, redis killed and back."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness.client import Client, next_words
from tests.harness.redis import Redis, find_redis
from tests.harness.service import Service
from tests.harness.waiting import wait_until
from tests.torture.disks import no_mount, small_disk
from tests.torture.promise import Promise, tally
from tests.torture.quiet_service import serving

PROMISE = "A text that was acknowledged is kept, whole, until it is taken back"
PATH = "/v1/profiles/me"
TEXT = "Text {} of a person who called Zbigniew Kowalczyk on the telephone."
REFUSALS = {503, 507, 429, 504}  # answers while a store or a service is at fault


def profiles(
    bundle: Path | None,
    folder: Path,
    times: int = 20,
    clients: int = 8,
    kilobytes: tuple[int, ...] = (512, 1024, 2048),  # on 3 MB, a profile is full before the disk is
    bits: int = 100,
) -> Iterator[Promise]:
    """Learn texts of several clients at once, and kill, fill or damage what keeps them."""
    yield _kill(bundle, folder / "kill", times, clients)
    yield _fill(bundle, folder / "fill", kilobytes)
    yield _damage(bundle, folder / "damage", bits)
    yield _kill_redis(bundle, folder / "redis", times, clients)


class _Learning:
    """Clients that learn numbered texts into one profile. `kept` has the acknowledged ones, by their ids."""

    def __init__(self, services: Sequence[Service], clients: int, kept: dict[str, str], until_gone: bool) -> None:
        self.kept, self.outcomes, self.sent = kept, list[int | str](), clients
        self._until_gone, self._stopped = until_gone, threading.Event()
        self._threads = [threading.Thread(target=self._learn, args=(services[number % len(services)], number))
                         for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _learn(self, service: Service, number: int) -> None:
        with Client(service) as client:
            while not self._stopped.is_set():
                text = TEXT.format(f"{number}-{len(self.kept)}-{time.monotonic_ns()}")
                answer = client.ask("POST", f"{PATH}/text", {"text": text})
                if answer.status == 200:
                    self.kept[answer.json["id"]] = text
                elif not answer.status and self._until_gone:
                    return
                else:
                    self.outcomes.append(answer.outcome)
                    self._stopped.wait(0.05)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def _faults(client: Client, kept: dict[str, str], most_more: int = 0) -> list[str]:
    """Return what is wrong with the profile: acknowledged texts are lost or changed, or there are others."""
    answer = client.ask("GET", f"{PATH}/export")
    if answer.status != 200:
        return [f"export: {answer.outcome}"] if kept else []
    found = {text["id"]: text["text"] for text in answer.json["texts"]}
    wrong = [id for id, text in kept.items() if found.get(id) != text]
    faults = [f"{len(wrong):,} texts lost or changed"] if wrong else []
    more = len(found.keys() - kept.keys())
    return faults + ([f"{more:,} texts more"] if more > most_more else [])


def _kill(bundle: Path | None, folder: Path, times: int, clients: int) -> Promise:
    """SIGKILL to all processes of the service while clients learn, again and again with the same file."""
    folder.mkdir()
    draw, kept, faults = random.Random(0), dict[str, str](), list[str]()
    for number in range(times + 1):
        with serving(folder / f"{number}", bundle, "--profiles", str(folder / "profiles.sqlite")) as service:
            with Client(service) as client:
                # A text can be kept whose acknowledgement did not arrive: one of each client and kill.
                faults += _faults(client, kept, number * clients)
            if number < times:
                learning = _Learning([service], clients, kept, until_gone=True)
                time.sleep(draw.uniform(0.1, 1.0))
                service.signal(signal.SIGKILL, to_group=True)
                learning.stop()
                service.kill()
    return Promise(PROMISE, f"SIGKILL to the service {times} times, while {clients} clients learn",
                   not faults and bool(kept), _told(kept, faults))


def _fill(bundle: Path | None, folder: Path, kilobytes: tuple[int, ...]) -> Promise:
    """Learn on small disks until they are full, ask, make room, take texts back, and learn on."""
    attack = f"disks of {', '.join(map(str, kilobytes))} kB filled by learning, then with room again"
    folder.mkdir()
    if reason := no_mount(folder):
        return Promise(PROMISE, attack, None, reason)
    faults: list[str] = []
    acknowledged: dict[str, str] = {}
    for size in kilobytes:
        with small_disk(folder / "disk", f"size={size}k") as disk, \
                serving(folder / f"{size}", bundle, "--profiles", str(disk / "profiles.sqlite")) as service, \
                Client(service) as client:
            kept: dict[str, str] = {}
            for number in range(100_000):
                text = TEXT.format(number) * 200
                answer = client.ask("POST", f"{PATH}/text", {"text": text})
                if answer.status != 200:
                    break
                kept[answer.json["id"]] = text
            acknowledged |= kept
            if answer.status != 507 or b"disk is full" not in answer.body:
                faults.append(f"{size} kB: {answer.outcome} where the disk is full")
            faults += [f"{size} kB, full: {fault}" for fault in _faults(client, kept)]
            if kept and client.ask(*next_words(profile="me")).status != 200:
                faults.append(f"{size} kB: no suggestions with the profile")
            subprocess.run(["mount", "-o", f"remount,size={4 * size}k", str(disk)], check=True)
            for id in list(kept)[: len(kept) // 2 + 1]:
                if client.ask("DELETE", f"{PATH}/text/{id}").status != 200:
                    faults.append(f"{size} kB, with room again: a text cannot be taken back")
                del kept[id]
            answer = client.ask("POST", f"{PATH}/text", {"text": TEXT})
            if answer.status == 200:
                kept[answer.json["id"]] = TEXT
            else:
                faults.append(f"{size} kB, with room again: {answer.outcome}")
            faults += [f"{size} kB, with room again: {fault}" for fault in _faults(client, kept)]
    return Promise(PROMISE, attack, not faults, _told(acknowledged, faults))


def _damage(bundle: Path | None, folder: Path, bits: int) -> Promise:
    """Flip bits of the file behind a running service, one at a time: it tells that, or answers what was learned."""
    folder.mkdir()
    file, other, draw = folder / "profiles.sqlite", folder / "other", random.Random(0)
    answers: list[int | str] = []
    faults: list[str] = []
    kept: dict[str, str] = {}
    with serving(folder / "service", bundle, "--profiles", str(file)) as service, Client(service) as client:
        for number in range(20):
            text = TEXT.format(number) * 20
            kept[client.ask("POST", f"{PATH}/text", {"text": text}).json["id"]] = text
        client.ask("POST", "/v1/profiles/other/text", {"text": TEXT})
        client.ask("DELETE", "/v1/profiles/other")  # this empties the write-ahead log
        whole = file.read_bytes()
        for _ in range(bits):
            content = bytearray(whole)
            place = draw.randrange(len(content))
            content[place] ^= 1 << draw.randrange(8)
            other.write_bytes(content)
            other.replace(file)
            answer = client.ask("GET", f"{PATH}/export")
            answers.append(answer.outcome)
            if answer.status == 200:
                faults += [f"byte {place}: {fault}" for fault in _faults(client, kept)]
            elif answer.status not in (500, 503):
                faults.append(f"byte {place}: {answer.outcome}")
            asked = client.ask(*next_words(profile="me")).status
            if asked not in (200, 500, 503) or client.ask(*next_words()).status != 200:
                faults.append(f"byte {place}: suggestions {asked}")
        other.write_bytes(whole)
        other.replace(file)
        faults += [f"a copy put back: {fault}" for fault in _faults(client, kept)]
        if not service.is_full():
            faults.append("the service is not full")
    return Promise("A damaged file of profiles is told, and nothing that was not learned is answered",
                   f"{bits} times a bit of the file flipped while it serves", not faults,
                   f"the profile is answered {tally(answers)}; {'; '.join(faults[:3]) or 'nothing wrong'}")


def _kill_redis(bundle: Path | None, folder: Path, times: int, clients: int) -> Promise:
    """SIGKILL to redis while clients learn through two services, and start it again."""
    attack = f"SIGKILL to redis {times} times, while {clients} clients learn through two services"
    if not find_redis():
        return Promise(PROMISE, attack, None, "redis-server or the package redis is not installed")
    folder.mkdir()
    draw, kept, faults = random.Random(0), dict[str, str](), list[str]()
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis(folder))
        services = [stack.enter_context(serving(folder / name, bundle, "--profiles", redis.address)) for name in "ab"]
        learning = _Learning(services, clients, kept, until_gone=False)
        try:
            for _ in range(times):
                before = len(kept)
                wait_until(
                    lambda before=before: len(kept) > before + clients,  # type: ignore[misc]
                    "more learned texts",
                )
                time.sleep(draw.uniform(0, 0.3))
                redis.kill()
                time.sleep(draw.uniform(0, 0.5))
                redis.start()
        finally:
            learning.stop()
        for service in services:
            with Client(service) as client:
                faults += _faults(client, kept, times * clients)
            faults += service.faults()
    if odd := set(learning.outcomes) - REFUSALS:
        faults.append(f"answers {sorted(map(str, odd))}")
    return Promise(PROMISE, attack, not faults, f"{_told(kept, faults)}; meanwhile {tally(learning.outcomes)}")


def _told(kept: dict[str, str], faults: list[str]) -> str:
    return f"{len(kept):,} texts acknowledged; " + ("; ".join(faults[:3]) or "none lost")
