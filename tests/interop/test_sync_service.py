"""Devices with sealed folders of their own, and a sync service that carries files between them as it likes: late, some and not
others, the last writer first, copies where both changed. Whatever it does, what somebody wrote and nobody who saw it replaced
is there for both in the end."""

import random
import shutil

import pytest

from test_sync import Device, keys  # noqa: F401: a fixture

ROUNDS = 12


class Service:
    """Carries files between two folders, as services do that know what was the same on both sides last."""

    def __init__(self, draw, *folders):
        self.draw, self.folders, self.before = draw, folders, {}
        self.copies = 0

    def carry(self, share):
        """Carries each change with this probability, in any order."""
        here, there = map(contents, self.folders)
        paths = sorted(here.keys() | there.keys() | self.before.keys())
        self.draw.shuffle(paths)
        for path in paths:
            if self.draw.random() > share:
                continue
            was, a, b = (files.get(path) for files in (self.before, here, there))
            if a != b and was not in (a, b) and a is not None and b is not None:
                self._copy(path, a, b)
            elif a != b:
                # A deletion gives way to a change.
                content = b if was == a or a is None and was != b else a
                for folder in self.folders:
                    put(folder, path, content)
                self.before[path] = content
            else:
                self.before[path] = a
        self.before = {path: content for path, content in self.before.items() if content is not None}

    def _copy(self, path, a, b):
        """Both changed: one stays at its name, the other beside it."""
        content, other = self.draw.sample([a, b], 2)
        self.copies += 1
        stem, dot, suffix = path.partition(".") if not path.startswith(".keyhearth") else (path, "", "")
        for folder in self.folders:
            put(folder, path, content)
            put(folder, f"{stem} (conflicted copy {self.copies}){dot}{suffix}", other)
        self.before[path] = content
        self.before[f"{stem} (conflicted copy {self.copies}){dot}{suffix}"] = other


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(folder, path, content):
    place = folder / path
    if content is None:
        place.unlink(missing_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists() or place.read_bytes() != content:
        part = place.with_name(".service.tmp")
        part.write_bytes(content)
        part.rename(place)


class Person:
    """Somebody at a device: changes files, and knows which contents are still wanted."""

    def __init__(self, draw, device, wanted):
        self.draw, self.device, self.wanted, self.count = draw, device, wanted, 0

    def work(self):
        for _ in range(self.draw.randrange(4)):
            files = self.device.files()
            choice, name = self.draw.random(), self.draw.choice(sorted(files) or ["a"])
            if choice < 0.5 or not files:
                self.count += 1
                content = f"{self.device.name} {self.count}".encode() * self.draw.randrange(1, 50)
                name = self.draw.choice(["a.txt", "b.txt", "c/d.txt", "c/e.txt", name])
                self.wanted.discard(files.get(name))
                self.device.write(name, content)
                self.wanted.add(content)
            elif choice < 0.7:
                (self.device.plain / name).unlink()
                # Another copy of it may be left elsewhere.
                self.wanted.discard(files[name])
            else:
                new = self.draw.choice(["f.txt", "g/h.txt", "c/i.txt"])
                if new not in files:
                    content = files[name]
                    (self.device.plain / name).unlink()
                    self.device.write(new, content)


def pass_of(device):
    """One pass, after which nothing is lost that was there before."""
    before = set(device.files().values())
    process = device.run()
    assert process.returncode in (0, 1), process.stderr
    kept = set(device.files().values()) | set(device.trash())
    assert before <= kept, before - kept
    return process


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_service_does_nothing_is_lost(server, keys, tmp_path, seed):  # noqa: F811
    draw = random.Random(seed)
    first, second = Device(server, tmp_path, "first"), Device(server, tmp_path, "second")
    for device in (first, second):
        device.sealed = tmp_path / f"sealed-{device.name}"
        device.sealed.mkdir()
    first.sign()
    shutil.copytree(first.sealed, second.sealed, dirs_exist_ok=True)
    service = Service(draw, first.sealed, second.sealed)
    wanted = set()
    people = [Person(draw, device, wanted) for device in (first, second)]
    for _ in range(ROUNDS):
        for person in draw.sample(people, 2):
            person.work()
            if draw.random() < 0.8:
                pass_of(person.device)
        service.carry(draw.choice([0, 0.5, 1]))
    for _ in range(8):
        service.carry(1)
        ended = [pass_of(device) for device in (first, second)]
    assert first.files() == second.files(), [process.stdout for process in ended]
    assert wanted <= set(first.files().values()), [process.stdout for process in ended]
