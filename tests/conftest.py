"""What all tests share. HYPOTHESIS_PROFILE=explore draws fresh examples; without it they are the same on every run."""

import contextlib
import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from genlib.checks import grade

SITE = Path(os.environ.get("SITE") or Path(__file__).resolve().parents[1] / "_build" / "html").resolve()
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "fixed")


@pytest.fixture(scope="module")
def double():
    """Make float64 the default, and put back what was."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def said(capsys):
    """A function that returns what the grader of an exercise says of an answer."""

    def said(label, answer):
        grade(label, answer)
        out = capsys.readouterr().out
        assert out.endswith("\n")
        assert out.startswith(f"{label}: ")
        return out.removeprefix(f"{label}: ").removesuffix("\n")

    return said


@pytest.fixture(scope="session")
def single():
    """A function that makes of an answer the same answer, worked out in float32."""

    def single(answer):
        return lambda *given: answer(
            *(
                part.float() if isinstance(part, torch.Tensor) and part.is_floating_point() else part
                for part in given
            )
        )

    return single


# The built pages --------------------------------------------------------------------------------------------


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing; a browser that hangs up early is no error."""

    def log_message(self, *args):
        pass

    def handle(self):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().handle()


@pytest.fixture(scope="session")
def site():
    """The folder of the built book: the environment variable SITE, or else _build/html."""
    if not (SITE / "index.html").is_file():
        pytest.fail(f"there is no site in {SITE}: build it first (make book)")
    return SITE


@pytest.fixture(scope="session")
def base(site):
    """The address at which the site is served."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(site))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def browser():
    """Chromium from the system. Where there is none, the tests are skipped; under CI that is a failure."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        tell = pytest.fail if os.environ.get("CI", "false") not in ("", "false") else pytest.skip
        tell("no Chromium is installed, so the built pages are not tested")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()
