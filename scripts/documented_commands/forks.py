"""Programs in Python that start at once: copies of a process that has imported PyTorch and this package already.

``python -m scripts.documented_commands.forks SOCKET PARENT`` is that process. ``client(socket)`` is a program in place
of ``python``: it hands its arguments, its folder, its environment and its open files to it. Detectron2 and this package
read where datasets are when they are imported: a program that has them elsewhere starts as usual.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DATASETS = "DETECTRON2_DATASETS"
MESSAGE = 1 << 20  # bytes, at most
CLIENT = """\
#!{python} -ISE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
words = {words!r} + sys.argv[1:]
message = json.dumps([words, os.getcwd(), dict(os.environ), os.getpgrp()]).encode()
socket.send_fds(server, [len(message).to_bytes(4, "big")], [0, 1, 2])
server.sendall(message)
sys.exit(int(server.recv(16) or b"1"))
"""


def client(path: Path, words: list[str]) -> str:
    """Return a program that runs Python with ``words`` and its own arguments."""
    return CLIENT.format(python=sys.executable, path=str(path), words=words)


@contextmanager
def server(path: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run the process that answers at ``path``, with the modules and datasets that programs in ``folder`` find."""
    words = [sys.executable, "-W", "ignore", "-m", "scripts.documented_commands.forks", str(path), str(os.getpid())]
    path.unlink(missing_ok=True)
    with subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        if not process.stdout.readline():  # when it is ready
            sys.exit("the process that starts programs has ended: its error is above")
        try:
            yield
        finally:
            process.terminate()


def serve(path: str, parent: int) -> None:
    """Answer clients, each in a process of its own, as long as ``parent``, which started this one, lives."""
    import detectron2.engine
    import torch

    import centermask_solo.cli
    import centermask_solo.cli.train
    import centermask_solo.inference.results
    import centermask_solo.registration

    del torch, detectron2, centermask_solo
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(5)
        print("ready", flush=True)
        while os.getppid() == parent:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.setblocking(True)
            if os.fork() == 0:
                listener.close()
                answer(connection)
            connection.close()


def answer(connection: socket.socket) -> None:
    """Run what a client asks for, in a process below this one; tell the client its exit code, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, files, _, _ = socket.recv_fds(connection, 4, 3)
    size, content = int.from_bytes(length, "big"), b""
    while len(content) < size:
        content += connection.recv(MESSAGE)
    words, folder, environment, group = json.loads(content)
    os.setpgid(0, group)  # so that who ends the client ends this, too
    child = os.fork()
    if child == 0:
        connection.close()
        for target, file in enumerate(files):
            os.dup2(file, target)
        os.chdir(folder)
        if environment.get(DATASETS) != os.environ.get(DATASETS):
            os.execve(sys.executable, [sys.executable, *words], environment)
        os.environ.clear()
        os.environ.update(environment)
        code = run(words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def run(words: list[str]) -> int:
    """Run what ``python words`` would run; return its exit code."""
    option, *rest = words
    sys.path[0] = os.getcwd()
    try:
        if option == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif option == "-m":
            sys.argv = ["-m", *rest[1:]]
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(option))
            runpy.run_path(option, run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
