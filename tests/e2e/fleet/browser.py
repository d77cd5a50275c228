"""A real browser: Debian's Chromium without a window, driven by chromedriver."""

import shutil
import tempfile
import time

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
except ImportError:  # a machine without tools/install-deps --test
    webdriver = None

from .wait import wait_until

# Nothing is loaded from elsewhere, and nothing is looked up.
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--disable-dev-shm-usage", "--window-size=1280,900")
BOUND_S = 40


def missing():
    """What is not installed; "": nothing."""
    names = [] if webdriver else ["python3-selenium"]
    return ", ".join(names + [name for name in ("chromium", "chromedriver") if not shutil.which(name)])


class Browser:
    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        self._folder = tempfile.mkdtemp(prefix="mqfleet-browser-")
        for option in (*OPTIONS, f"--user-data-dir={self._folder}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        self.driver.set_page_load_timeout(60)
        self.driver.set_script_timeout(60)

    def close(self):
        self.driver.quit()
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, url):
        self.driver.get("about:blank")  # a change of the fragment alone would not load the page again
        self.driver.get(url)

    def go(self, page):
        self.driver.execute_script("location.hash = arguments[0]", f"#/{page}")

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector="main"):
        """What a reader sees; an element may be replaced while it is read."""
        return self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText).join('\\n')", selector)

    def see(self, text, selector="main"):
        def seen():
            shown = self.text(selector)
            assert text in shown, shown
            return True
        wait_until(seen, BOUND_S, f"{text!r} in {selector}")

    def press(self, name, within="main"):
        """The button or link with that text or label."""
        script = """
            const found = [...document.querySelectorAll(arguments[1] + " button, " + arguments[1] + " a, " + arguments[1] + " summary")]
                .find((one) => (one.getAttribute("aria-label") ?? one.textContent) === arguments[0] && !one.disabled);
            found?.click();
            return Boolean(found);"""

        def pressed():
            assert self.driver.execute_script(script, name, within), self.text(within)
            return True
        wait_until(pressed, BOUND_S, f"the button {name}")

    def enter(self, name, value, within="main"):
        """The control of that name or label."""
        script = """
            const found = document.querySelector(`${arguments[2]} [name="${arguments[0]}"], ${arguments[2]} [aria-label="${arguments[0]}"]`);
            if (!found) return false;
            found.value = arguments[1];
            found.dispatchEvent(new Event("input", { bubbles: true }));
            found.dispatchEvent(new Event("change", { bubbles: true }));
            return true;"""
        wait_until(lambda: self.driver.execute_script(script, name, value, within), BOUND_S, f"the control {name}")

    def value(self, name):
        return self.driver.execute_script(
            "return document.querySelector(`[name=\"${arguments[0]}\"], [aria-label=\"${arguments[0]}\"]`).value", name)

    def loaded(self, name):
        """Whether this page has loaded a file of that name."""
        return self.driver.execute_script(
            "return performance.getEntriesByType('resource').some((one) => one.name.endsWith('/' + arguments[0]))", name)

    def log(self):
        """Messages of the console since the last call, without answers that a page expects."""
        return [line["message"] for line in self.driver.get_log("browser")]

    def size(self, width, height):
        self.driver.set_window_size(width, height)
        time.sleep(0.2)

    def scheme(self, name):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                    {"features": [{"name": "prefers-color-scheme", "value": name}]})

    def save(self, path):
        self.driver.save_screenshot(str(path))
