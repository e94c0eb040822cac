"""Power cuts: SQLite on an ext4 of its own that forgets, at once, all that was not synced.

`EXT4_IOC_SHUTDOWN` without a flush stops the file system in the kernel, journal and all; what comes
back with the next mount is what a disk would hold. Control: SQLite with `synchronous=OFF`.
Needs root and loop devices.
"""

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sconto.base.errors import UnavailableError
from sconto.torture.alone import CONTROL, Alone, alone, rounds_of
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, skipped

CAP = 3000
CONTROL_ROUNDS = 10
DISK_BYTES = 512 << 20
#: `_IOR('X', 125, __u32)`, and "do not flush the journal" (linux/fs/ext4/ext4.h).
EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
UNMOUNT_S = 20.0


@dataclass
class Disk:
    """A file with an ext4 in it, and where that is mounted."""

    image: Path
    mounted_at: Path

    def mount(self) -> None:
        run("mount", "-t", "ext4", "-o", "loop", str(self.image), str(self.mounted_at))

    def cut(self) -> None:
        """From here on nothing reaches the disk any more."""
        descriptor = os.open(self.mounted_at, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Once nobody has a file open there."""
        deadline = time.monotonic() + UNMOUNT_S
        while True:
            try:
                return run("umount", str(self.mounted_at))
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def run(*command: str) -> None:
    """Run a command; UnavailableError with what it says when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{' '.join(command[:2])}: {done.stderr.strip()[-200:]}")


def why_not(*commands: str, devices: Sequence[str] = ()) -> str:
    """Why a campaign that needs root and these commands and devices cannot run here."""
    if os.geteuid() != 0:
        return "it needs root"
    for command in commands:
        if shutil.which(command) is None:
            return f"{command} is not installed"
    for device in devices:
        if not Path(device).exists():
            return f"there is no {device}"
    return ""


@asynccontextmanager
async def new_disk(folder: Path) -> AsyncIterator[Disk]:
    """A new disk, mounted; gone afterwards."""
    disk = Disk(folder / "disk.img", folder / "disk")
    disk.mounted_at.mkdir(parents=True)
    with disk.image.open("wb") as file:
        file.truncate(DISK_BYTES)
    run("mkfs.ext4", "-q", "-F", str(disk.image))
    disk.mount()
    try:
        yield disk
    finally:
        await asyncio.to_thread(disk.unmount)


async def power(options: Options, folder: Path) -> Outcome:
    """`--cuts` cuts."""
    if why := why_not("mkfs.ext4", "mount", "umount", devices=["/dev/loop-control"]):
        return skipped("power", why)
    bound = Bound(options)

    async def trial(name: str, rounds: int, flaw: str | None) -> Trial:
        async with new_disk(folder / name) as disk:

            async def cut(one: Alone, number: int) -> None:
                # A machine without power says nothing more. Without this a sync that was under
                # way may return with success after the cut, and the yes after it would get out.
                one.shop.freeze()
                disk.cut()
                one.shop.kill()
                await asyncio.to_thread(disk.unmount)
                disk.mount()
                await one.restart()

            url = f"sqlite:///{disk.mounted_at / 'sconto.db'}"
            async with alone(
                folder / name,
                cap=CAP,
                flaw=flaw,
                database_url=url,
                data=disk.mounted_at,
                seed=options.seed,
            ) as one:
                return await rounds_of(one, cut, rounds, bound, name)

    control = await trial(f"power{CONTROL}", CONTROL_ROUNDS, "unsynced")
    kept = await trial("power", options.cuts, None)
    return outcome("power", bound, kept, control, of=options.cuts)
