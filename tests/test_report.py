import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from sparring.metrics.conformal import Calibration
from sparring.metrics.detection import judge
from sparring.pictures import grid, save
from sparring.report import Evidence, Example, charts, pick, reading, words, write_report
from sparring.report.opponent import readings

VOID = {"meta", "img", "source", "br"}
EVIL = "<script>alert('x')</script>&\"'"


@pytest.fixture
def drawn():
    """Asked for by the tests that draw charts; the others get blank ones, which are faster."""


@pytest.fixture(autouse=True)
def _blank(request, monkeypatch):
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(charts, "render", lambda draw, theme: b"")


class Page(HTMLParser):
    """Collects what a page holds, and holds it to being well formed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.sources, self.tags, self.words = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        self.sources += [found[key] for key in ("src", "srcset", "href") if key in found]
        if tag == "img":
            assert found["alt"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.words.append(text)


def written(tmp_path, **parts):
    path = tmp_path / "report.html"
    write_report(path, Evidence("A title", **parts))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?://|//cdn|<script|@import|url\(", text)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in page.sources)
    assert all(source[1:] in page.ids for source in page.sources if source.startswith("#"))
    return page, "".join(page.words)


@pytest.fixture(scope="module")
def judged():
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.normal(size=100), rng.normal(2, 1, size=60)])
    truth, calibration = np.arange(160) >= 100, Calibration(rng.normal(size=99))
    kinds = ["good"] * 100 + ["crack"] * 60
    p = calibration.p_value(score)
    found = judge(score, truth, p, 0.05, kinds, resamples=20, calibrated=99)
    return {"detection": found, "scores": score, "anomalous": truth, "calibration": calibration.scores}


def journal(phases=("train",), lines=30):
    return [
        {
            "phase": phase, "round": 10 * (i + 1) + 10 * lines * k, "seconds": 0.5, "images_per_second": 100.0,
            "critic/real": -1 / (i + 1), "critic/penalty": 10.0 / (i + 1), "generator/fooled": 0.1 * i,
        }
        for k, phase in enumerate(phases)
        for i in range(lines)
    ]  # fmt: skip


def example(name="a.png", heat=True, **more):
    image = Image.new("L", (16, 16), 80)
    given = {"score": 1.5, "p_value": 0.02, "flagged": True, "anomalous": True, "kind": "crack"} | more
    return Example(name, image, heat=image.convert("RGB") if heat else None, **given)


def test_a_page_with_nothing_to_show_is_still_a_page(tmp_path):
    page, text = written(tmp_path)
    assert "A title" in text
    assert page.ids == []
    assert "img" not in page.tags


def test_each_section_stands_only_where_there_is_something_to_show(tmp_path, judged):
    save(grid(np.zeros((4, 8, 8), np.uint8)), tmp_path / "1.png")
    parts = {
        "facts": {"facts": {"model": "dcgan"}},
        "training": {"journal": journal()},
        "samples": {"samples": [(1, tmp_path / "1.png")]},
        "detection": judged,
        "scores": {"scores": judged["scores"]},
        "examples": {"examples": [example()]},
        "generation": {"generation": {"images": 64}},
        "opponent": {"opponent": {"count": 9, "ranked": 0.7, "real": 0.5, "made": 0.6}},
        "notes": {"notes": ["Short run."]},
    }
    for name, part in parts.items():
        assert written(tmp_path, **part)[0].ids == [name]
    everything = {key: value for part in parts.values() for key, value in part.items()}
    assert set(written(tmp_path, **everything)[0].ids) == set(parts) - {"scores"}


def test_what_users_wrote_is_escaped(tmp_path, judged):
    found = judged["detection"] | {"kinds": [judged["detection"]["kinds"][0] | {"kind": EVIL}]}
    lines = [{"phase": EVIL, "round": 1, f"{EVIL.replace('/', '')}/{EVIL.replace('/', '')}": 1.0}]
    path = tmp_path / "report.html"
    write_report(path, Evidence(
        EVIL, {EVIL: EVIL, "model": EVIL}, lines, detection=found, notes=[EVIL], generation={EVIL: {"note": EVIL}},
        examples=[example(EVIL, kind=EVIL)],
    ))  # fmt: skip
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 12


def test_the_promise_is_stated_in_words(tmp_path, drawn, judged):
    found = judged["detection"] | {"false_alarms": holding(47, 980)}
    page, text = written(tmp_path, **(judged | {"detection": found}))
    assert (
        "Of normal images like those it was calibrated on, about 5 in 100 are flagged; on this test set 47 of 980 "
        "were (4.8 %, 95 % interval 3.5 to 6.3 %), which agrees with the promise."
    ) in text
    assert page.tags.count("img") == page.tags.count("source") == 3  # histogram, ROC, precision-recall


def holding(count, of, calibrated=None):
    p = np.where(np.arange(of) < count, 0.01, 1)
    return judge(np.zeros(of), np.zeros(of), p, 0.05, resamples=2, calibrated=calibrated)["false_alarms"]


def test_a_promise_that_does_not_hold_is_said_so():
    assert "more than promised: these normal images look stranger" in words.promise(0.05, holding(90, 980))
    assert "fewer than promised" in words.promise(0.05, holding(10, 980))
    assert "within what the luck of the calibration" in words.promise(0.05, holding(66, 980, calibrated=200))
    assert "look stranger" in words.promise(0.05, holding(200, 980, calibrated=200))
    assert "no normal images" in words.promise(0.05, None)


def test_too_few_calibration_images_are_pointed_out(tmp_path, judged):
    _, text = written(tmp_path, **(judged | {"calibration": np.arange(5.0)}))
    assert "No example can be called strange" in text
    assert "19" in text


@pytest.mark.parametrize("truth", [0, 1])
def test_one_class_alone_makes_a_report(tmp_path, truth):
    score, labels = np.arange(20.0), np.full(20, truth)
    found = judge(score, labels, np.linspace(1, 0.01, 20), 0.05, ["k"] * 20, resamples=5)
    page, text = written(tmp_path, detection=found, scores=score, anomalous=labels, calibration=np.arange(20.0))
    assert page.tags.count("source") == 1
    assert ("holds no anomalies" in text) == (not truth)


@pytest.mark.parametrize("score", [np.ones(10), np.array([2.0]), np.geomspace(1e-6, 1e6, 50), np.r_[np.zeros(9), 1e9]])
def test_scores_of_any_spread_can_be_drawn(tmp_path, drawn, score):
    page, _ = written(tmp_path, scores=score, calibration=score, false_alarms=0.05)
    assert page.tags.count("source") == 1


def test_pick_shows_the_extremes_and_the_worst_mistakes():
    score = np.array([0.1, 0.9, 0.5, 0.7, 0.3, 0.8])
    truth, flagged = np.array([1, 1, 1, 0, 0, 0], bool), score > 0.6
    assert pick(score, flagged, truth, each=2) == {
        "strangest": [1, 5], "plainest": [0, 4], "missed": [0, 2], "false": [5, 3]
    }  # fmt: skip
    assert set(pick(score, flagged)) == {"strangest", "plainest"}


def test_missed_anomalies_come_before_false_alarms(tmp_path):
    shown = [example("ok.png"), example("miss.png", flagged=False, score=0.1), example("false.png", anomalous=False)]
    page, text = written(tmp_path, examples=shown)
    at = [text.index(heading) for heading in ("Missed anomalies", "False alarms", "Most strange", "Least strange")]
    assert at == sorted(at)
    assert text.index("miss.png") < text.index("false.png")
    assert page.tags.count("img") == 2 * (1 + 1 + 3 + 3)  # the image and its heat map
    _, text = written(tmp_path, examples=[example(anomalous=None, heat=False)])
    assert "Missed" not in text
    assert "heat" not in text.lower()


def test_losses_have_one_panel_a_player(tmp_path, drawn):
    lines = journal(("one", "two"))
    lines += [{"phase": "two", "round": 700, "judge/real": None, "critic/real": float("nan"), "auroc": 0.9}]
    assert charts.players(lines) == {"critic": ["real", "penalty"], "generator": ["fooled"], "judge": ["real"]}
    page, text = written(tmp_path, journal=lines)
    assert page.tags.count("source") == 3
    assert "700 rounds in 30 seconds" in text
    assert "Losses of the critic." in text


def test_a_long_journal_is_drawn_without_gaps_and_repeats():
    lines = journal(lines=9000)
    rounds, values = charts._series([*lines, lines[-1] | {"critic/real": float("inf")}], "critic/real")
    assert len(rounds) <= 2 * charts.MOST
    assert (np.diff(rounds) > 0).all()
    assert np.isfinite(values).all()
    np.testing.assert_allclose(charts._smooth(np.full(100, 3.0), 7), 3)


def test_samples_show_the_last_and_some_of_the_earlier(tmp_path):
    given = []
    for number in range(40, 0, -1):
        save(Image.new("L", (8, 8), number), tmp_path / f"{number}.png")
        given.append((number, tmp_path / f"{number}.png"))
    page, text = written(tmp_path, samples=given)
    assert page.tags.count("img") == 7
    assert "After round 40, the last." in text
    assert "Round 1" in text
    (tmp_path / "40.png").write_bytes(b"cut short")
    assert written(tmp_path, samples=given)[0].tags.count("img") == 6
    assert written(tmp_path, samples=[(1, tmp_path / "missing.png")])[0].ids == []


def test_numbers_on_generation(tmp_path):
    given = {"Parzen": {"mean": 225.123, "standard_error": 2.04, "note": "nats"}, "FID": {"value": 12.3, "low": 11.0,
             "high": 13.0}, "images": 10000, "protocol": "short"}  # fmt: skip
    _, text = written(tmp_path, generation=given)
    for expected in ("225.1 ± 2", "nats", "12.3 (11 to 13)", "10,000", "short"):
        assert expected in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.048, "4.8 %"), (0, "0 %"), (1, "100 %"), (0.9996, "99.96 %"), (0.0004, "0.04 %"), (0.05, "5.0 %")],
)
def test_shares_close_to_the_ends_keep_their_digits(value, text):
    assert words.per_cent(value) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0.05, "5 in 100"), (0.001, "1 in 1,000"), (0.025, "2.5 in 100"), (0.5, "50 in 100")]
)
def test_odds(rate, text):
    assert words.odds(rate) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.9213, "0.921"), (0.99712, "0.9971"), (1, "1.000"), (0.999999, "> 0.9999"), (0.5, "0.500")]
)
def test_metrics_are_never_rounded_up_to_perfect(value, text):
    assert words.fixed(value) == text


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    written(tmp_path, notes=["first"])
    before = (tmp_path / "report.html").read_text()
    with pytest.raises(AttributeError):
        write_report(tmp_path / "report.html", Evidence("x", notes=[None]))
    assert (tmp_path / "report.html").read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def terms(count=80, **of):
    """A journal whose terms are functions of the share of the training that has passed."""
    shares = [(i + 1) / count for i in range(count)]
    names = {key.replace("_", "/"): f for key, f in of.items()}
    return [
        {"phase": "train", "round": 10 * (i + 1), **{k: f(t) for k, f in names.items()}} for i, t in enumerate(shares)
    ]


def at(value, wobble=0.0):
    return lambda t: value + wobble * np.sin(40 * t)


LOG2 = float(np.log(2))
CONSTANT = {  # what a constant answer costs, by family of losses
    "logistic": {"discriminator_real": LOG2, "discriminator_fake": LOG2, "generator_fooled": LOG2},
    "halved": {"discriminator_real": LOG2 / 2, "discriminator_fake": LOG2 / 2, "generator_fooled": LOG2},
    "hinge": {"discriminator_real": 1, "discriminator_fake": 1, "generator_fooled": 0},
    "least squares": {"discriminator_real": 0.125, "discriminator_fake": 0.125, "generator_fooled": 0.125},
    "pearson": {"discriminator_real": 0.5, "discriminator_fake": 0.5, "generator_fooled": 0},
    "saturating": {"discriminator_real": LOG2 / 2, "discriminator_fake": LOG2 / 2, "generator_fooled": -LOG2},
    "of pairs": dict.fromkeys(
        ("discriminator_real", "discriminator_fake", "generator_encoded", "generator_fooled"), LOG2 / 2
    ),
    "relativistic": {"discriminator_relativistic": LOG2, "generator_relativistic": LOG2, "discriminator_r1": 0},
}


@pytest.mark.parametrize("family", CONSTANT)
def test_a_discriminator_that_guesses_is_pointed_out(family):
    costs = CONSTANT[family]
    (said,) = reading.readings(terms(**{key: at(value, 1e-3) for key, value in costs.items()}))
    assert "no better than guessing" in said
    assert "within 2% of" in said
    assert not reading.readings(terms(**{key: at(value + 0.1, 1e-3) for key, value in costs.items()}))
    late = {key: (lambda t, v=value: v + (0.2 if t > 0.9 else 0)) for key, value in costs.items()}
    assert not reading.readings(terms(**late)), "it guesses no more"


def test_a_discriminator_that_happens_to_cost_a_half_does_not_guess():
    healthy = {"discriminator_real": at(0.5), "discriminator_fake": at(0.5), "generator_fooled": at(1.1)}
    assert not reading.readings(terms(**healthy))


@pytest.mark.parametrize(
    "losses",
    [
        {"discriminator_real": at(0.01), "discriminator_fake": at(0.02), "generator_fooled": lambda t: 2 + 8 * t},
        {"discriminator_relativistic": at(0.01), "generator_relativistic": lambda t: 2 + 8 * t},
    ],
)
def test_a_generator_that_is_outclassed_is_pointed_out(losses):
    (said,) = reading.readings(terms(**losses))
    assert "outclasses the generator" in said
    assert "below 0.05" in said
    steady = {key: (at(6.0) if key.startswith("generator") else f) for key, f in losses.items()}
    assert not reading.readings(terms(**steady)), "its loss does not grow"
    fair = {key: (at(0.2) if key.startswith("discriminator") else f) for key, f in losses.items()}
    assert not reading.readings(terms(**fair)), "it is often wrong"


def test_nothing_is_said_of_few_lines_of_other_models_or_of_an_earlier_phase():
    dead = {key: at(value) for key, value in CONSTANT["logistic"].items()}
    assert not reading.readings(terms(count=19, **dead))
    assert not reading.readings([])
    assert not reading.readings(journal())
    healthy = {"discriminator_real": at(0.4), "discriminator_fake": at(0.4), "generator_fooled": at(1.3)}
    later = [line | {"phase": "two", "round": line["round"] + 1000} for line in terms(**healthy)]
    assert not reading.readings([*terms(**dead), *later])


def test_a_generator_that_repeats_itself_is_pointed_out():
    rng = np.random.default_rng(0)
    real = rng.uniform(size=(300, 3, 8, 8))
    said = reading.collapse(real[:4].repeat(20, axis=0) + 0.01 * rng.normal(size=(80, 3, 8, 8)), real)
    assert "mode collapse" in said
    assert "among 80 generated images" in said
    assert "below 25%" in said
    assert not reading.collapse(rng.uniform(size=(100, 3, 8, 8)), real)
    assert not reading.collapse(0.5 + 0.5 * (rng.uniform(size=(100, 3, 8, 8)) - 0.5), real), "faint, but all different"
    assert not reading.collapse(real[:1].repeat(19, axis=0), real), "too few to say"
    assert not reading.collapse(np.zeros((50, 4)), np.zeros((50, 4))), "real images that are all the same"


def test_kinds_that_are_never_made_are_said():
    def found(coverage, precision):
        return {"coverage": {"value": coverage}, "precision": {"value": precision}}

    said = reading.left_out(found(0.12, 0.9), found(0.96, 0.97))
    assert "reach 12.0 % of" in said.replace("%", " %")
    assert "90.0%" in said
    assert "mode collapse" in said
    assert not reading.left_out(found(0.3, 0.1), found(0.96, 0.97)), "poor, but all over the data"
    assert not reading.left_out({}, found(0.96, 0.97)), "not measured"


@pytest.mark.parametrize(("apart", "window"), [(1, 101), (10, 11), (60, 1), (500, 1)])
def test_the_wasserstein_estimate_is_a_running_median(apart, window):
    rng = np.random.default_rng(0)
    lines = [
        {"phase": "train", "round": apart * (i + 1), "critic/real": -3.0 + 0.1 * rng.normal(), "critic/fake": 1.0}
        for i in range(300)
    ]
    lines[150]["critic/real"] = -1000.0
    found = reading.wasserstein(lines[::-1] + lines)
    assert (found.window, len(found.raw)) == (window, 300)
    assert (np.diff(found.rounds) == apart).all()
    assert found.raw[150] == 999
    assert (found.median.max() < 2.5) == (window > 1)
    assert reading.wasserstein(terms(discriminator_real=at(1))) is None


def norms(of_generator, count=80, **more):
    """A journal whose norms of the generator's gradient are a function of the share of the training that has passed."""
    lines = terms(count, discriminator_real=at(0.4), discriminator_fake=at(0.4), generator_fooled=at(1.3), **more)
    for i, line in enumerate(lines):
        line["gradient_norm"] = {"discriminator": 1.0, "generator": of_generator((i + 1) / count)}
    return lines


def test_a_gradient_that_vanishes_is_pointed_out():
    (said,) = reading.readings(norms(lambda t: 2.0 * 1e-6**t))
    assert "generator's gradient has vanished" in said
    assert "below 2%" in said
    assert "wgan_gp" in said
    assert reading.readings(norms(lambda t: 2.0 if t < 0.5 else 0.0399))
    assert not reading.readings(norms(lambda t: 2.0 if t < 0.5 else 0.0401)), "above 2 % of it is left"
    assert not reading.readings(norms(lambda t: 2.0 if t < 0.99 else 0.0)), "only lately"
    assert not reading.readings(norms(lambda t: 1e-9)), "small numbers say nothing where they were small at first"
    assert reading.readings(norms(lambda t: 2.0 if t < 0.5 else 0.0))
    dead = norms(lambda t: 2.0 * 1e-6**t)
    for line in dead:
        line |= {"discriminator/real": LOG2, "discriminator/fake": LOG2, "generator/fooled": LOG2}
    (said,) = reading.readings(dead)
    assert "no better than guessing" in said, "which explains it"


def test_norms_of_gradients_are_drawn(tmp_path, drawn):
    lines = norms(lambda t: 2.0 * 1e-6**t)
    assert charts.players(lines) == {"discriminator": ["real", "fake"], "generator": ["fooled"]}, "no loss terms"
    page, text = written(tmp_path, journal=[*lines, {"phase": "train", "round": 2000, "generator/fooled": 1.0}])
    assert page.tags.count("source") == 3
    assert "Norms of the gradients." in text


def opponent(real=0.7, made=0.6, at_bounds=None, count=500):
    found = {"count": count, "ranked": 0.75, "real": real, "made": made}
    if at_bounds is not None:
        histogram = {"shares": [0.5, 0.25, 0.25], "edges": [-0.012, -0.004, 0.004, 0.012]}
        found["clipping"] = {"bound": 0.01, "count": 1234, "at_bounds": at_bounds, "histogram": histogram}
    return found


def test_what_the_opponent_tells_apart(tmp_path, drawn):
    page, text = written(tmp_path, opponent=opponent())
    assert page.ids == ["opponent"]
    for expected in ("Real taken for real", "70.0 %", "Made taken for made", "60.0 %", "75.0 %"):
        assert expected in text
    assert "img" not in page.tags
    page, text = written(tmp_path, opponent=opponent(None, None, 0.6))
    assert "taken for" not in text, "a critic has no boundary"
    assert "Pairs ranked rightly" in text
    assert "60.0 % of the critic's weights sit at the bounds" in text
    assert "1,234" in text
    assert page.tags.count("source") == 1
    (clipping,) = ({"clipping": opponent(at_bounds=0.1)["clipping"]},)
    assert "ranked" not in written(tmp_path, opponent=clipping)[1]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (opponent(0.992, 0.998), "hardly ever fooled"),
        (opponent(None, None) | {"ranked": 0.53}, "The critic tells real from made no better than guessing"),
        (opponent(0.988, 1.0), ""),
        (opponent(1.0, 1.0, count=99), ""),
        (opponent(None, None), ""),
        (opponent(0.5, 0.5, 0.51), "simple function"),
        (opponent(0.5, 0.5, 0.49), ""),
    ],
)
def test_readings_of_the_opponent(found, said):
    shown = readings(found)
    assert len(shown) == bool(said)
    assert said in "".join(shown)


def test_the_wasserstein_estimate_can_be_drawn(drawn):
    for count in (1, 300):
        found = reading.wasserstein(
            [{"round": i + 1, "critic/real": -1.0, "critic/fake": i / 100} for i in range(count)]
        )
        assert charts.render(charts.estimate(found), charts.LIGHT).startswith(b"\x89PNG")
