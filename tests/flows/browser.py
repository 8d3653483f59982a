"""A person at the Prefect UI that `azr up` serves: Chromium, the pages and the buttons (UI v1 of Prefect 3.7.7)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # collected also where playwright is not installed
    from playwright.sync_api import Locator, Page

PATIENCE_MS, _REST_MS = 120_000, 1000
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_SIZE = (1280, 1000)
_OF_LABEL = (
    "xpath=.//div[contains(concat(' ', @class, ' '), ' schema-form-property ')]"
    "[./div[contains(@class, 'p-label__header')]"
    "//span[contains(@class, 'schema-form-property__label')][.='{name}' or .='{name} (Optional)']]"
)


def chromium() -> str | None:
    """The browser that is here; one can be named by AZR_CHROMIUM."""
    return os.environ.get("AZR_CHROMIUM") or next((found for name in _NAMES if (found := shutil.which(name))), None)


def why_none() -> str | None:
    """Why nobody can sit at a browser here; None when one can."""
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install -c constraints.txt -e '.[dev]'"
    if chromium() is None:
        return f"no Chromium: none of {', '.join(_NAMES)} is on the PATH, and AZR_CHROMIUM names none"
    return None


class Desk:
    """A browser window on the UI, and the directory that gets its screenshots."""

    def __init__(self, page: Page, ui: str, screens: Path) -> None:
        self.page, self.ui, self.screens = page, ui, screens
        self._shots = 0

    def shoot(self, name: str, height: int = _SIZE[1]) -> None:
        """Keep what is seen, once pictures are drawn and what moves has come to rest."""
        self._shots += 1
        self.page.set_viewport_size({"width": _SIZE[0], "height": height})
        self.page.wait_for_timeout(_REST_MS)
        self.page.screenshot(path=self.screens / f"{self._shots:02d}-{name}.png")
        self.page.set_viewport_size({"width": _SIZE[0], "height": _SIZE[1]})

    # ---- forms

    def open_deployments(self) -> None:
        """From the first page to the list of deployments."""
        self.page.goto(self.ui)
        self.page.get_by_text("Deployments", exact=True).first.click()
        self.page.locator("tr").first.wait_for()

    def open_form(self, deployment: str) -> None:
        """Deployments, this one, Run, Custom run."""
        self._open_run_menu(deployment)
        self.page.get_by_text("Custom run").first.click()
        self._submit.wait_for()

    def open_copy(self) -> None:
        """From the page of a flow run: the form with what it was started with."""
        self.page.locator(".page-heading-flow-run").locator("button").last.click()
        self.page.get_by_text("Copy to new run").first.click()
        self._submit.wait_for()

    def quick_run(self, deployment: str) -> str:
        """Deployments, this one, Run, Quick run; returns the id of the flow run."""
        while True:
            self._open_run_menu(deployment)
            if (known := self._began(self.page.get_by_text("Quick run").first)) is not None:
                return known

    def field(self, *path: str) -> Locator:
        """An input of a form, by the labels that lead to it."""
        found = self.page.locator("form")
        for name in path:
            found = found.locator(_OF_LABEL.format(name=name))
        return found

    def fill(self, value: str | float, *path: str) -> None:
        """Type into a field."""
        self.field(*path).locator("input, textarea").first.fill(str(value))

    def value(self, *path: str) -> str:
        """What a field holds."""
        return self.field(*path).locator("input, textarea").first.input_value()

    def choose(self, value: str, *path: str) -> None:
        """Pick from a list, by keyboard: in Chromium 156 a click opens the lists of this UI and closes them."""
        self.field(*path).locator(".p-select-button__control").press("ArrowDown")
        self.page.locator(".p-select-option").get_by_text(value, exact=True).first.click()

    def flip(self, *path: str) -> None:
        """Press a switch."""
        self.field(*path).get_by_role("switch").click()

    def submit_in_vain(self, said: str) -> None:
        """Press Submit, and be told why not."""
        self._submit.click()
        self.page.get_by_text(said).first.wait_for()

    def submit(self) -> str:
        """Press Submit, again when the server is too busy; returns the id of the flow run."""
        while True:
            if (known := self._began(self._submit)) is not None:
                return known

    @property
    def _submit(self) -> Locator:
        return self.page.locator("form").get_by_role("button", name="Submit")

    def _open_run_menu(self, deployment: str) -> None:
        self.open_deployments()
        self.page.get_by_role("link", name=deployment, exact=True).first.click()
        self.page.get_by_role("button", name="Run", exact=True).click()

    def _began(self, button: Locator) -> str | None:
        """Press a button that starts a flow run; None when the server says that it is busy."""
        with self.page.expect_response(lambda answer: "create_flow_run" in answer.url) as answer:
            button.click()
        if answer.value.status == 503:
            return None
        assert answer.value.ok, answer.value.text()
        return str(answer.value.json()["id"])

    # ---- the page of a flow run

    def watch(self, flow_run: str) -> None:
        """Go to its page."""
        self.page.goto(f"{self.ui}/runs/flow-run/{flow_run}")
        self._badge.wait_for()

    def await_state(self, name: str) -> None:
        """Look at the page until the badge on top says so."""
        self._badge.filter(has_text=name).wait_for()

    def tab(self, name: str) -> None:
        """Turn to one of its tabs."""
        self.page.locator(".p-tab, .p-tabs").get_by_text(name, exact=True).first.click()

    def press(self, button: str, confirm: str) -> None:
        """Press a button on top of the page, and the one in the dialog that it opens."""
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.locator(".p-modal").get_by_role("button", name=confirm, exact=True).click()

    def message(self) -> str:
        """What its state says, below Details; the rest of a long message is behind See More."""
        self.tab("Details")
        shown = self.page.locator(".p-key-value").filter(has_text="State Message").first
        shown.wait_for()
        if (more := shown.get_by_text("See More")).count():
            more.click()
        return shown.inner_text()

    def open_subflow(self, name: str) -> None:
        """Go to the page of the latest subflow of that name."""
        self.tab("Subflow Runs")
        self.page.get_by_role("link", name=name, exact=True).first.click()
        self.page.get_by_text("Parent Run").first.wait_for()

    def stages(self) -> list[tuple[str, str]]:
        """The task runs below the tab, in the order in which they ran, each with its badge."""
        self.tab("Task Runs")
        items = self.page.locator(".task-run-list-item__breadcrumbs")
        items.first.wait_for()
        names = [name.rpartition(" · ")[2] for name in items.all_inner_texts()]
        badges = self.page.locator(".state-list-item .state-badge").all_inner_texts()
        return list(zip(reversed(names), reversed(badges), strict=True))

    def open_artifact(self, key: str) -> None:
        """From the tab Artifacts to the page of one."""
        self.tab("Artifacts")
        self.page.locator(".artifact-card__title").get_by_text(key, exact=True).first.click()
        self.page.wait_for_url("**/artifacts/artifact/**")
        self.page.locator(".markdown-renderer").first.wait_for()

    @property
    def _badge(self) -> Locator:
        return self.page.locator(".page-heading-flow-run__meta .state-badge").first


@contextmanager
def desk(ui: str, screens: Path) -> Iterator[Desk]:
    """A browser on the UI, until the end of the block; what it looked at last is kept as well."""
    from playwright.sync_api import sync_playwright

    screens.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS), headless=True)
        try:
            page = browser.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]})
            page.set_default_timeout(PATIENCE_MS)
            yield Desk(page, ui, screens)
            page.screenshot(path=screens / "99-last.png")
        finally:
            browser.close()
