"""The page of a replay in a browser: what one sees, and what keys and clicks do."""

import functools
import shutil
import time

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tf_marl.environments.combat import replay

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
QUIET = ("quic", "background-networking", "component-update", "sync")  # a test talks to nobody

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver (Debian: apt-get install chromium chromium-driver)"
)

STEPS = 12


def make_episode(battle, outcome, steps):
    """Agents 0 (stalker) and 1 (medivac) walk east by half a map unit a step; enemy 0 dies in the last step."""
    rows = np.arange(steps + 1)[:, None]
    health = np.tile([80.0, 150, 45], [steps + 1, 1])
    health[:, 0] -= 5 * rows[:, 0]
    health[-1, 2] = 0
    available = np.zeros([steps + 1, 2, 7], bool)
    available[:, :, 1:4] = True  # stop, north, south
    available[3:, 0, 6] = True  # attack, once near
    action = np.tile([3, 1], [steps, 1])  # south, stop
    action[3:, 0] = 6
    target = np.full([steps + 1, 3], -1)
    target[4:, 0] = 2
    return replay.Episode(
        battle=battle,
        outcome=outcome,
        slots=np.array([0]),
        x=np.array([[10.0, 8, 17]]) + 0.5 * rows * [1, 1, 0],
        y=np.tile([16.0, 13, 16], [steps + 1, 1]),
        health=health,
        shield=np.tile([80.0, 0, 0], [steps + 1, 1]),
        energy=np.tile([0, 50.0, 0], [steps + 1, 1]) + rows,
        target=target,
        available=available,
        action=action,
        reward=np.arange(1, steps + 1) / 4,
        value=np.tile([2.5, 1.5], [steps + 1, 1]),
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    battle = replay.Battle(
        map_name="arena",
        terrain=np.where(np.arange(32)[:, None] + np.zeros(32) > 1, ".", "#"),
        agents=(replay.Unit("stalker", 0.625, 80.0, 80.0, 0.0), replay.Unit("medivac", 0.75, 150.0, 0.0, 200.0)),
        enemies=(replay.Unit("marine", 0.375, 45.0, 0.0, 0.0),),
        seed=(0, 4),
    )
    path = tmp_path_factory.mktemp("page") / "replay.html"
    replay.write(path, [make_episode(battle, "won", STEPS), make_episode(battle, "lost", 5)], "two against one")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless", "no-sandbox", "disable-gpu", "no-first-run", *(f"disable-{what}" for what in QUIET)):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The open page, as one sees and touches it."""

    def __init__(self, browser):
        self.browser = browser

    def __getitem__(self, name):
        return self.browser.find_element(By.ID, name)

    def text(self, name):
        return self[name].text

    def press(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()

    def step(self):
        return int(self.text("clock").split()[1])

    def wait(self, condition):
        WebDriverWait(self.browser, 10, poll_frequency=0.02).until(lambda _: condition())

    def place(self, x, y):
        """Pixels from the canvas's top left corner to a place on the map."""
        left, _, right, top = map(float, self["battle"].get_attribute("data-view").split())
        scale = self["battle"].size["width"] / (right - left)
        return (x - left) * scale, (top - y) * scale

    def click(self, x, y):
        size, (px, py) = self["battle"].size, self.place(x, y)
        offset = round(px - size["width"] / 2), round(py - size["height"] / 2)
        ActionChains(self.browser).move_to_element_with_offset(self["battle"], *offset).click().perform()

    def colour(self, x, y):
        """The colour of the canvas at a place on the map, as r, g, b."""
        read = """const [x, y] = arguments, canvas = document.getElementById("battle");
                  const ratio = canvas.width / canvas.clientWidth;
                  return [...canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data.slice(0, 3)]"""
        return tuple(self.browser.execute_script(read, *self.place(x, y)))

    def actions(self, state):
        return [item.text for item in self.browser.find_elements(By.CSS_SELECTOR, f"#actions .{state}")]

    def cursors(self):
        lines = self.browser.find_elements(By.CSS_SELECTOR, ".chart .cursor")
        return [float(line.get_attribute("x1")) for line in lines]


@pytest.fixture
def page(browser, address):
    """The page, freshly opened in a wide window; it must not complain, and not load anything else."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    resize(browser, 1600)
    browser.get(address)
    yield Page(browser)
    complaints = [entry["message"] for entry in browser.get_log("browser")]
    assert [text for text in complaints if "getImageData" not in text] == []  # these tests call that one
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


def resize(browser, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


BLUE, VERMILION = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def test_it_opens_on_the_first_step_of_the_first_episode(page):
    assert page.browser.title == "arena replay"
    assert page.text("map") == "arena"
    assert page.text("title") == "two against one"
    assert page.text("clock") == f"step 0 of {STEPS}"
    assert page.text("agents-left") == "2/2 agents"
    assert page.text("enemies-left") == "1/1 enemies"
    buttons = page["episodes"].find_elements(By.TAG_NAME, "button")
    assert ["won" in button.text for button in buttons] == [True, False]
    assert "lost" in buttons[1].text
    assert "space play or pause" in page.text("help")


def test_units_are_drawn_where_they_are_in_their_sides_colours(page):
    assert page.colour(10 - 0.4, 16) == BLUE
    assert page.colour(8 - 0.45, 13) == BLUE
    assert page.colour(17 - 0.2, 16) == VERMILION
    ground = page.colour(14, 12.7)
    assert ground not in (BLUE, VERMILION)
    page.press(Keys.END)
    assert page.colour(10 - 0.4, 16) not in (BLUE, VERMILION)  # it has left
    assert page.colour(16 - 0.4, 16) == BLUE
    assert page.colour(17 - 0.2, 16) != VERMILION  # it is dead


def test_space_plays_and_pauses(page):
    page.press("]", "]")
    page.press(Keys.SPACE)
    page.wait(lambda: page.step() >= 2)
    assert page["play"].get_attribute("aria-label") == "Pause"
    page.press(Keys.SPACE)
    stopped = page.cursors()[0]
    assert 2 <= stopped < STEPS
    assert page["play"].get_attribute("aria-label") == "Play"
    time.sleep(0.3)
    assert page.cursors()[0] == stopped


def test_units_move_smoothly_between_steps(page):
    page["play"].click()
    seen = set()
    page.wait(lambda: seen.add(page.cursors()[0]) or len(seen) > 8)
    page["play"].click()
    assert any(t % 1 for t in seen)


def test_a_battle_that_ends_says_how_and_starts_anew(page):
    page.press("]", "]", "]")
    page["begin"].click()
    page.wait(lambda: page["result"].is_displayed())
    assert page.text("result") == f"won · return {sum(range(1, STEPS + 1)) / 4:.2f}"
    assert page.step() == STEPS
    page.wait(lambda: page["play"].get_attribute("aria-label") == "Play")
    page.press(Keys.SPACE)
    page.wait(lambda: page.step() < STEPS)
    assert not page["result"].is_displayed()


def test_keys_go_to_steps(page):
    for keys, step in [
        ((Keys.ARROW_RIGHT,) * 3, 3),
        ((Keys.ARROW_LEFT,), 2),
        ((Keys.END,), STEPS),
        ((Keys.ARROW_RIGHT,), STEPS),
        ((Keys.HOME,), 0),
        ((Keys.ARROW_LEFT,), 0),
    ]:
        page.press(*keys)
        assert page.step() == step
        assert page.cursors() == [step] * 3
        assert page["scrub"].get_attribute("value") == str(step)


def test_the_scrub_bar_goes_to_a_step(page):
    ActionChains(page.browser).click(page["scrub"]).perform()  # on its middle
    assert page.step() == STEPS // 2
    assert page.text("return-now") == f"{sum(range(1, STEPS // 2 + 1)) / 4:.2f}"
    assert page.text("reward-now") == f"{STEPS // 2 / 4:.3f}"


def test_a_click_on_a_chart_goes_there(page):
    plot = page["return"].find_element(By.TAG_NAME, "svg")
    ActionChains(page.browser).move_to_element_with_offset(plot, plot.size["width"] // 4, 0).click().perform()
    assert page.step() == STEPS * 3 // 4


def test_brackets_change_the_speed(page):
    def speed():
        return page["speed"].get_attribute("value")

    assert speed() == "4"
    page.press("]")
    assert speed() == "8"
    page.press("[", "[", "[", "[", "[")
    assert speed() == "1"
    Select(page["speed"]).select_by_value("16")
    page.press("]")
    assert speed() == "32"


def test_a_click_picks_the_agent_there(page):
    page.click(8, 13)
    assert page.text("agent-name") == "agent 1, medivac"
    page.click(10, 16)
    assert page.text("agent-name") == "agent 0, stalker"
    page.click(12, 12.5)
    assert page.text("agent-name") == "Pick an agent"
    page.press(Keys.END)
    page.click(16, 16)
    assert page.text("agent-name") == "agent 0, stalker"


def test_keys_pick_agents(page):
    def picked():
        return page.text("agent-name").split(",")[0]

    for key, name in [
        (Keys.ARROW_DOWN, "agent 0"),
        (Keys.ARROW_DOWN, "agent 1"),
        (Keys.ARROW_DOWN, "agent 0"),
        (Keys.ARROW_UP, "agent 1"),
        ("0", "agent 0"),
        ("1", "agent 1"),
        ("7", "agent 1"),
        (Keys.ESCAPE, "Pick an agent"),
    ]:
        page.press(key)
        assert picked() == name


def test_the_panel_tells_of_the_picked_agent_at_the_step(page):
    page.press("0", Keys.ARROW_RIGHT)
    assert page.text("agent-health") == "75 / 80"
    assert page.text("agent-shield") == "80 / 80"
    assert page.text("agent-value") == "2.50"
    assert page.text("agent-position") == "10.5, 16.0"
    assert page.text("agent-action") == "south"
    assert page.actions("chosen") == ["south"]
    assert page.actions("available") == ["stop", "north"]
    assert page.actions("unavailable") == ["no-op", "east", "west", "attack marine 0"]
    page.press(*[Keys.ARROW_RIGHT] * 2)
    assert page.text("agent-action") == "attack marine 0"
    assert page.actions("available") == ["stop", "north", "south"]
    assert "agent 2.50 · team 2.00" in page.text("value-now")
    page.press(Keys.END)
    assert page.text("agent-action") == "the battle is over"
    page.press(Keys.HOME, "1")
    assert page.text("agent-energy") == "50 / 200"
    assert page.actions("unavailable")[-1] == "heal stalker 0"


def test_the_picked_agents_sight_and_attack_distance_are_drawn(page):
    def differ(before, places):
        return [page.colour(*place) != colour for place, colour in zip(places, before, strict=True)]

    # Three places right of agent 0: inside both circles, and on each; a dashed line is looked for along an arc.
    angles = np.radians(np.arange(-25, -15, 0.4))
    around = functools.partial(lambda radius: [(10 + radius * np.cos(a), 16 + radius * np.sin(a)) for a in angles])
    rings = {radius: around(radius) for radius in (4.5, 6.0, 9.0)}
    before = {radius: [page.colour(*place) for place in places] for radius, places in rings.items()}
    page.press("0")
    drawn = {radius: np.mean(differ(before[radius], places)) for radius, places in rings.items()}
    assert drawn[4.5] == 0
    assert drawn[6.0] > 0.9
    assert 0.2 < drawn[9.0] < 0.9


def test_an_attack_is_a_line_from_the_attacker_to_its_target(page):
    def between():
        return page.colour(14.25, 16)  # halfway from 11.5, 16 to 17, 16

    page.press(Keys.ARROW_RIGHT)
    before = between()
    page.press(Keys.ARROW_RIGHT)
    assert between() == before
    page.press(Keys.ARROW_RIGHT)
    assert between() != before


def test_another_episode_starts_at_its_first_step(page):
    page.press("0", Keys.END)
    page["episodes"].find_elements(By.TAG_NAME, "button")[1].click()
    assert page.text("clock") == "step 0 of 5"
    assert page.text("agent-health") == "80 / 80"
    page.press(Keys.END)
    assert page.text("result").startswith("lost")
    page.press("n")
    assert page.text("clock") == f"step 0 of {STEPS}"
    page.press("p")
    assert page.text("clock") == "step 0 of 5"


def test_the_whole_map_can_be_seen(page):
    page["whole"].click()
    assert page["battle"].get_attribute("data-view") == "0 0 32 32"
    assert page.colour(10 - 0.4, 16) == BLUE
    assert page.colour(1, 5) != page.colour(3, 5)  # the first two columns cannot be walked on
    page.press("m")
    assert page["battle"].get_attribute("data-view") != "0 0 32 32"


@pytest.mark.parametrize("width", [360, 1600])
def test_it_fits_the_window(page, width):
    resize(page.browser, width)
    page.press("0")
    # The window takes its new size when the browser gets round to it.
    page.wait(lambda: page.browser.execute_script("return document.documentElement.scrollWidth") <= width)
    canvas, charts = page["battle"].rect, page["charts"].rect
    assert 240 <= canvas["width"] <= width
    beside = charts["x"] > canvas["x"] + canvas["width"]
    assert beside == (width == 1600)


def test_it_is_dark_where_one_likes_it_dark(page):
    def lightness():
        script = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        return sum(page.browser.execute_script(script)) / (3 * 255)

    ground = page.colour(14, 12.7)
    assert lightness() > 0.8
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [dark]})
    page.wait(lambda: lightness() < 0.2)
    page.wait(lambda: sum(page.colour(14, 12.7)) < sum(ground) / 2)
