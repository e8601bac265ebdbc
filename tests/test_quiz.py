"""Real or fake?: the rules, the results file, the rates, and what the server gives away."""

import contextlib
import http.client
import io
import json
import re
import socket
import threading
import time
from random import Random

import numpy as np
import pytest
from PIL import Image

from pygan import bootstrap
from pygan.errors import UserError
from pygan.quiz import grid, protocol, rates, records, sessions
from pygan.quiz.pool import Pool, System, to_png
from pygan.quiz.records import Results
from pygan.quiz.server import Server, _is_own_name

ONE, TWO = System("/runs/one", 100, ""), System("/runs/two", 100, "")


def pool(system=ONE, n=12, *, paired=True, inputs=None, size=8):
    """Real pictures have 200 in their first channel, fakes 50; the second is the number of the item."""

    def picture(level, item):
        return np.full((size, size, 3), (level, item, 0), dtype=np.uint8)

    names = [f"item {i}" for i in range(n)]
    real, fake = ([picture(level, i) for i in range(n)] for level in (200, 50))
    return Pool(system, "last", real, fake, paired, inputs, names)


@pytest.fixture
def results(tmp_path):
    with_file = Results(tmp_path / "quiz.jsonl").open()
    yield with_file
    with_file.close()


def pairs(results, pools=None, **how):
    how = {"seed": 0, "exposure": 1.0, "practice": 2, "trials": 4} | how
    return sessions.Pairs(pools or [pool()], results, **how)


def real_side(test, name, trial):
    """What only the server knows."""
    return test._sessions[name].plan[trial].side


# ---- the rules


@pytest.mark.parametrize("paired", [True, False])
def test_a_session_shows_nothing_twice_and_practises_first(paired):
    plan = protocol.pairs("word", items=60, paired=paired, practice=10, trials=40)
    assert [pair.practice for pair in plan] == [True] * 10 + [False] * 40
    assert len({pair.fake for pair in plan}) == len({pair.real for pair in plan}) == 50
    assert all(pair.real == pair.fake for pair in plan) == paired
    assert plan == protocol.pairs("word", items=60, paired=paired, practice=10, trials=40)
    assert plan != protocol.pairs("another", items=60, paired=paired, practice=10, trials=40)


def test_the_real_one_is_on_both_sides_alike():
    sides = [p.side for k in range(40) for p in protocol.pairs(str(k), items=50, paired=True, practice=10, trials=40)]
    assert abs(sides.count("left") / len(sides) - 0.5) < 0.05  # 4.5 standard deviations of 2000 fair draws


@pytest.mark.parametrize(
    ("there", "expected"), [(50, (10, 40)), (49, (9, 40)), (24, (4, 20)), (5, (1, 4)), (4, (0, 4)), (1, (0, 1))]
)
def test_fewer_pairs_than_asked_for(there, expected):
    assert protocol.fitted(there, 10, 40) == expected


def test_what_counts_comes_before_practice():
    assert protocol.fitted(12, 10, 4) == (8, 4)
    assert protocol.fitted(12, 0, 40) == (0, 12)


def test_the_system_with_the_fewest_sessions_is_next():
    assert protocol.assign([ONE, TWO], {ONE: 3, TWO: 2}, Random(0)) == TWO
    assert {protocol.assign([ONE, TWO], {ONE: 2, TWO: 2}, Random(k)) for k in range(20)} == {ONE, TWO}


def test_sessions_are_shared_out_evenly(results):
    test = pairs(results, [pool(ONE), pool(TWO)])
    names = [test.start() for _ in range(10)]
    given = [test._sessions[name].systems for name in names]
    assert sorted(map(tuple, given)) == [(ONE,)] * 5 + [(TWO,)] * 5


def test_rows_of_ranking_have_every_system_once():
    rows = protocol.rows("word", items=30, systems=4, trials=30)
    assert sorted(row.item for row in rows) == list(range(30))
    assert all(sorted(row.order) == [0, 1, 2, 3] for row in rows)
    assert len({row.order for row in rows}) > 5


# ---- a session


def test_practice_has_feedback_and_what_counts_has_none(results):
    test = pairs(results)
    name = test.start()
    for trial in range(6):
        state = test.state(name)
        assert (state["stage"], state["trial"], state["practice"]) == ("trial", trial, trial < 2)
        test.show(name, trial)
        reply = test.answer(name, {"trial": trial, "side": "left", "exposure_ms": 1000.2, "answer_ms": 321.0})
        if trial < 2:
            assert reply["real"] == real_side(test, name, trial)
            assert reply["correct"] == (reply["real"] == "left")
        else:
            assert set(reply) == {"state"}
    end = test.state(name)
    counted = [row for row in results.rows if row["what"] == "answer" and not row["practice"]]
    assert end["right"] == sum(real_side(test, name, trial) == "left" for trial in range(2, 6))
    assert end["rate"] == 1 - end["right"] / 4
    assert len(counted) == end["answers"] == 4
    assert counted[0]["exposure_ms"] == 1000.2
    assert counted[0]["answer_ms"] == 321.0


def test_the_pictures_are_those_of_the_plan(results):
    test = pairs(results)
    name = test.start()
    left, right = test.show(name, 0)
    assert (left[0, 0, 0] == 200) == (real_side(test, name, 0) == "left")
    assert left[0, 0, 0] != right[0, 0, 0]
    assert left[0, 0, 1] == right[0, 0, 1] == test._sessions[name].plan[0].fake


def test_a_pair_is_shown_once_and_answered_once(results):
    test = pairs(results)
    name = test.start()
    with pytest.raises(sessions.Refused, match="pictures come first"):
        test.answer(name, {"trial": 0, "side": "left"})
    test.show(name, 0)
    assert test.state(name)["shown"]
    with pytest.raises(sessions.Refused, match="shown"):
        test.show(name, 0)
    test.answer(name, {"trial": 0, "side": "left"})
    for trial in (0, 2, -1, True, None, "1", 10**9):
        with pytest.raises(sessions.Refused, match="another question"):
            test.answer(name, {"trial": trial, "side": "left"})
    assert sum(row["what"] == "answer" for row in results.rows) == 1


def test_a_pair_that_was_not_seen_is_not_counted(results):
    test = pairs(results, practice=0, trials=2)
    name = test.start()
    for trial, side in enumerate([None, "left"]):
        test.show(name, trial)
        test.answer(name, {"trial": trial, "side": side})
    (summary,) = rates.fooling(results.rows)
    assert summary.answers == 1
    assert (test.state(name)["scored"], test.state(name)["missed"]) == (1, 1)


@pytest.mark.parametrize(
    "bad", [{"side": "middle"}, {"side": ["left"]}, {"exposure_ms": -1}, {"answer_ms": "1"}, {"picture_px": True}]
)
def test_an_answer_that_is_none_is_refused(results, bad):
    test = pairs(results)
    name = test.start()
    test.show(name, 0)
    with pytest.raises(sessions.Refused) as refused:
        test.answer(name, {"trial": 0, "side": "left"} | bad)
    assert refused.value.status == 400
    assert test.state(name)["trial"] == 0


def test_a_session_goes_on_after_a_crash(results):
    before = pairs(results)
    name = before.start()
    before.show(name, 0)
    before.answer(name, {"trial": 0, "side": "left"})
    before.show(name, 1)
    results.close()
    again = Results(results.path).open()
    after = pairs(again)
    assert after.state(name) == before.state(name)
    assert after._sessions[name].plan == before._sessions[name].plan
    with pytest.raises(sessions.Refused):
        after.show(name, 1)  # no second look
    # Other pictures, or another time of exposure: another test, to which this session does not belong.
    assert pairs(again, [pool(n=13)]).state(name) == {"stage": "new"}
    assert pairs(again, exposure=2.0).state(name) == {"stage": "new"}
    again.close()


def test_a_full_disk_loses_nothing(results, monkeypatch):
    test = pairs(results)
    name = test.start()
    test.show(name, 0)
    before = results.path.read_bytes()

    def full(_file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(records.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            test.answer(name, {"trial": 0, "side": "left"})
    assert results.path.read_bytes() == before
    assert test.state(name)["trial"] == 0
    test.answer(name, {"trial": 0, "side": "left"})
    assert records.read(results.path) == results.rows


def test_ranks_are_of_systems_not_of_places(results):
    test = sessions.Ranks([pool(ONE), pool(TWO, inputs=None)], results, seed=0, trials=5)
    name = test.start()
    for trial in range(5):
        test.show(name, trial)
        assert len(test.show(name, trial)) == 2  # these may be looked at again
        order = test._sessions[name].plan[trial].order
        first = order.index(1)  # TWO is always the best
        test.answer(name, {"trial": trial, "order": [first, 1 - first]})
    found = {one.system: one.rate.mean for one in rates.ranks(results.rows)}
    assert found == {ONE: 2.0, TWO: 1.0}
    assert test.state(name)["stage"] == "done"


@pytest.mark.parametrize("order", [[0], [0, 0], [1, 2], [0, 1, 2], ["0", "1"], [True, False], None, "01"])
def test_an_order_that_is_none_is_refused(results, order):
    test = sessions.Ranks([pool(ONE), pool(TWO)], results, seed=0, trials=5)
    name = test.start()
    test.show(name, 0)
    with pytest.raises(sessions.Refused) as refused:
        test.answer(name, {"trial": 0, "order": order})
    assert refused.value.status == 400


def test_a_row_shows_what_the_pictures_were_painted_from(results):
    captions = [f"caption {i}" for i in range(12)]
    test = sessions.Ranks([pool(ONE, inputs=captions), pool(TWO, inputs=captions)], results, seed=0, trials=3)
    name = test.start()
    item = test._sessions[name].plan[0].item
    assert test.state(name)["text"] == f"caption {item}"
    assert {int(picture[0, 0, 1]) for picture in test.show(name, 0)} == {item}


# ---- the results file


def row(session, correct, *, system=ONE, trial=0, practice=False, exposure=1.0):
    return {
        "what": "answer", "session": session, "trial": trial, "practice": practice, **system._asdict(),
        "correct": correct, "exposure_s": exposure,
    }  # fmt: skip


def test_what_was_cut_short_is_dropped_and_the_rest_stays(tmp_path, capfd):
    path = tmp_path / "quiz.jsonl"
    whole = "".join(json.dumps(row("a", True, trial=k)) + "\n" for k in range(3))
    path.write_text(whole + json.dumps(row("a", True, trial=3))[:40])
    assert len(records.read(path)) == 3
    opened = Results(path).open()
    opened.append(row("a", False, trial=3))
    opened.close()
    assert "cut short" in capfd.readouterr().err
    assert path.read_text().startswith(whole)
    assert [r["trial"] for r in records.read(path)] == [0, 1, 2, 3]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps(row("a", True)))
    opened = Results(path).open()
    opened.append(row("a", True, trial=1))
    opened.close()
    assert len(records.read(path)) == 2


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        "[" * 100_000,
        '{"what": "answer"}',
        '{"what": ["answer"]}',
        json.dumps(row("a", "yes")),
        json.dumps(row("a", True, exposure=float("nan"))),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "quiz.jsonl"
    text = json.dumps(row("a", True)) + "\n" + line + "\n"
    path.write_text(text)
    with pytest.raises(UserError, match="line 2"):
        Results(path).open()
    assert path.read_text() == text


def test_another_file_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    with pytest.raises(UserError, match="line 1"):
        Results(path).open()
    assert path.read_text() == "my notes"
    with pytest.raises(UserError, match="no file"):
        Results(tmp_path).open()


def test_two_quizzes_do_not_share_a_file(results):
    with pytest.raises(UserError, match="in use"):
        Results(results.path).open()


def test_a_file_without_an_answer_goes_again(tmp_path):
    Results(tmp_path / "new.jsonl").open().close()
    assert not list(tmp_path.iterdir())


# ---- the rates


def test_fooling_rates_by_hand():
    rows = [row("a", k >= 3, trial=k) for k in range(10)]  # fooled in 3 of 10
    rows += [row("a", False, trial=k, practice=True) for k in range(5)]
    rows += [row("a", None, trial=20), row("b", True, system=TWO), row("c", True, exposure=0.5)]
    found = {(one.system, one.exposure): one for one in rates.fooling(rows)}
    one = found[ONE, 1.0]
    assert (one.people, one.answers, one.rate.mean, one.resampled) == (1, 10, 0.3, "answers")
    assert one.rate == bootstrap.of_mean([1.0] * 3 + [0.0] * 7)
    assert found[TWO, 1.0].rate.mean == 0
    assert found[ONE, 0.5].answers == 1


def test_people_are_resampled_where_there_are_several():
    """Twenty who are always fooled and twenty who never are: 800 answers, but only 40 opinions."""
    rows = [row(f"{p}", p % 2 == 0, trial=k) for p in range(40) for k in range(20)]
    (one,) = rates.fooling(rows)
    assert (one.people, one.answers, one.resampled) == (40, 800, "people")
    assert one.rate.mean == 0.5
    assert one.rate.std == pytest.approx(0.5 / 40**0.5, rel=0.05)  # over answers it would be 0.0177
    assert one.rate.low < 0.4 < 0.6 < one.rate.high


def test_few_people_who_agree_are_no_certainty():
    """Two people, fooled in 17 and 18 of 40: drawing people alone would say 42.5 to 45 %."""
    rows = [row(f"{p}", k >= 17 + p, trial=k) for p in range(2) for k in range(40)]
    (one,) = rates.fooling(rows)
    assert (one.people, one.resampled) == (2, "answers")
    assert one.rate.std == pytest.approx((0.4375 * 0.5625 / 80) ** 0.5, rel=0.05)
    assert one.rate.low < 0.35
    assert one.rate.high > 0.52


def test_people_with_few_answers_weigh_less():
    two = rates.of_people([[1.0], [0.0, 0.0, 0.0]])  # drawn again: 1, 1/4 or 0, with chances 1/4, 1/2, 1/4
    assert (two.mean, two.low, two.high) == (0.25, 0, 1)
    assert two.std == pytest.approx(0.375, rel=0.02)
    assert rates.of_people([[0.25] * 4] * 5).std == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="people"):
        rates.of_people([[]])


def test_names_tell_systems_apart():
    systems = [System("/a/x/run", 5, ""), System("/a/y/run", 5, "AtoB"), System("/a/y/run", 9, "AtoB")]
    assert list(rates.named(systems).values()) == ["x/run", "y/run AtoB at 5 images", "y/run AtoB at 9 images"]


# ---- the grid


def cut(sheet, cell, size):
    """The pixels of a cell of a grid of pictures of size x size, before they were enlarged to 96 or more."""
    zoom = max(1, -(-96 // size))
    top, left = 8 + cell.row * (size * zoom + 24), 8 + cell.column * (size * zoom + 8)
    return sheet[top : top + size * zoom : zoom, left : left + size * zoom : zoom]


@pytest.mark.parametrize(("number", "size"), [(9, 8), (16, 40), (1, 200)])
def test_the_key_agrees_with_the_pixels(tmp_path, number, size):
    shown = pool(n=20, size=size)
    cells, files = grid.write(shown, tmp_path / "mixed.png", number=number, seed=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed.key.json", "mixed.key.png", "mixed.png"]
    key = json.loads((tmp_path / "mixed.key.json").read_text())["cells"]
    assert key == [cell._asdict() for cell in cells]
    plain, framed = (np.asarray(Image.open(path)) for path in files[:2])
    for entry in key:
        cell = grid.Cell(**entry)
        for sheet in (plain, framed):
            inside = cut(sheet, cell, size)
            assert (inside == (shown.real if cell.real else shown.fake)[cell.item]).all()
    real = [cell.real for cell in cells]
    assert abs(sum(real) - number / 2) <= 0.5
    assert len({cell.item for cell in cells}) == number  # no real picture beside its own fake


def test_the_grid_does_not_say_which_are_real():
    """Two pools that differ in nothing but who painted them give one grid."""
    shown = pool()
    turned = Pool(shown.system, "last", shown.fake, shown.real, True, None, shown.names)
    cells = grid.mixed(shown, 9, 0)
    flipped = [cell._replace(real=not cell.real) for cell in cells]
    assert grid.draw(shown, cells, framed=False) == grid.draw(turned, flipped, framed=False)
    assert grid.draw(shown, cells, framed=True) != grid.draw(turned, flipped, framed=True)
    assert grid.mixed(shown, 9, 0) == cells
    assert grid.mixed(shown, 9, 1) != cells
    first = [grid.mixed(shown, 8, seed)[0].real for seed in range(200)]
    assert 70 < sum(first) < 130  # 4 standard deviations of 200 fair draws


# ---- the server


class Client:
    """A browser of a few lines, with its cookie."""

    def __init__(self, server):
        self.port, self.cookie = server.server_address[1], ""

    def ask(self, method, path, body=None, **headers):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        own = {"Content-Type": "application/json"} if body is not None else {}
        if self.cookie:
            own["Cookie"] = self.cookie
        connection.request(method, path, data, own | {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        if "Set-Cookie" in found[1]:
            self.cookie = found[1]["Set-Cookie"].partition(";")[0]
        return found

    def json(self, method, path, body=None):
        status, _, data = self.ask(method, path, body)
        assert status == 200, data
        return json.loads(data)


@pytest.fixture
def server(results):
    test = pairs(results)
    plan = {"practice": 2, "trials": 4, "systems": 1, "given": "nothing"}
    with Server("127.0.0.1", 0) as serving:
        serving.begin(test, {"test": "pairs", "size": 256, "exposure": 1.0, "plan": plan})
        yield serving
        serving.shutdown()


def test_a_session_over_http(server, results):
    client = Client(server)
    assert client.json("GET", "/state")["stage"] == "new"
    assert client.json("POST", "/start", {})["trial"] == 0
    assert client.json("POST", "/start", {})["trial"] == 0  # the same session, not a second one
    assert sum(r["what"] == "session" for r in results.rows) == 1
    for trial in range(6):
        two = client.json("POST", "/show", {"trial": trial})["pictures"]
        for address in two:
            assert client.ask("GET", address)[0] == 200
            assert client.ask("GET", address)[0] == 410  # each is given away once
        client.json("POST", "/answer", {"trial": trial, "side": "right", "exposure_ms": 1000, "answer_ms": 5})
        assert client.ask("POST", "/answer", {"trial": trial, "side": "right"})[0] == 409
        assert records.read(results.path) == results.rows  # on the disk already
    assert client.json("GET", "/state")["stage"] == "done"
    assert client.json("POST", "/leave", {})["stage"] == "new"
    assert client.json("GET", "/state")["stage"] == "new"


def test_nothing_gives_the_answer_away(server):
    """Beside their pixels the two pictures of a pair differ in nothing but random names."""
    client = Client(server)
    said = [client.ask("GET", path)[2] for path in ("/", "/quiz.js", "/quiz.css")]
    said.append(client.ask("POST", "/start", {})[2])
    addresses = []
    for trial in range(6):
        _, _, body = client.ask("POST", "/show", {"trial": trial})
        assert set(json.loads(body)) == {"pictures"}
        got = [client.ask("GET", address) for address in json.loads(body)["pictures"]]
        addresses += json.loads(body)["pictures"]
        heads = [{k: v for k, v in head.items() if k != "Date"} for _, head, _ in got]
        assert heads[0] == heads[1]
        assert not {"ETag", "Last-Modified"} & set(heads[0])
        assert [Image.open(io.BytesIO(png)).info for _, _, png in got] == [{}, {}]
        _, _, body = client.ask("POST", "/answer", {"trial": trial, "side": "left"})
        if trial >= 2:
            assert set(json.loads(body)) == {"state"}
            if trial < 5:
                assert not {"correct", "real", "right", "rate"} & set(json.loads(body)["state"])
    assert all(re.fullmatch(r"/picture/[0-9a-f]{32}", address) for address in addresses)
    assert len(set(addresses)) == 12
    draw = server.test.results.rows[0]["draw"].encode()
    assert not any(draw in text for text in said)


def test_pictures_of_one_size_are_files_of_one_size():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert len(to_png(noise)) == len(to_png(np.zeros_like(noise)))


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/nothing", None, {}, 404),
        ("GET", "/../../etc/passwd", None, {}, 404),
        ("GET", "/page.html", None, {}, 404),
        ("GET", "/picture/0123", None, {}, 410),
        ("GET", "/answer", None, {}, 405),
        ("POST", "/", {}, {}, 405),
        ("PUT", "/answer", {}, {}, 405),
        ("DELETE", "/results", None, {}, 404),
        ("POST", "/answer", b"{", {}, 400),
        ("POST", "/answer", b"\xff\xfe", {}, 400),
        ("POST", "/answer", b"[" * 4000, {}, 400),
        ("POST", "/answer", [], {}, 400),
        ("POST", "/answer", b"x" * 5000, {}, 413),
        ("POST", "/answer", {}, {"Content_Type": "text/plain"}, 415),
        ("POST", "/answer", {"trial": 0, "side": "left"}, {}, 403),
        ("POST", "/show", {"trial": 0}, {"Cookie": "a=b; ;;=; \x80"}, 403),
        ("POST", "/start", {}, {"Origin": "http://elsewhere.example"}, 403),
        ("POST", "/start", {}, {"Origin": "null"}, 403),
        ("GET", "/state", None, {"Host": "rebound.example"}, 421),
    ],
)
def test_what_is_not_meant_to_be_asked(server, capfd, method, path, body, headers, status):
    assert Client(server).ask(method, path, body, **headers)[0] == status
    assert "Traceback" not in capfd.readouterr().err
    assert not server.test.results.rows


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("localhost:8321", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("192.168.1.7:1", True),
        ("", False),
        ("evil.example:8321", False),
        ("localhost.evil.example", False),
    ],
)
def test_names_of_this_machine(name, own):
    assert _is_own_name(name, "127.0.0.1") == own


def test_a_client_that_goes_away_is_nobodys_error(server, capfd):
    for text in (b"GET /state HTTP/1.1\r\n", b"POST /answer HTTP/1.1\r\nContent-Length: 10\r\n\r\n{", b"\x16\x03\x01"):
        with socket.create_connection(server.server_address) as raw:
            raw.sendall(text)
    assert Client(server).json("GET", "/state")["stage"] == "new"
    assert "Traceback" not in capfd.readouterr().err


def test_a_full_disk_is_told(server, monkeypatch, capfd):
    client = Client(server)
    client.json("POST", "/start", {})

    def full(_file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(records.os, "fsync", full)
        assert client.ask("POST", "/show", {"trial": 0})[0] == 507
    assert "No space left" in capfd.readouterr().err
    assert client.json("GET", "/state")["shown"] is False


def test_many_at_once(server, results):
    """Each answers for himself; every answer is one whole line."""

    def person():
        client = Client(server)
        client.json("POST", "/start", {})
        for trial in range(6):
            client.json("POST", "/show", {"trial": trial})
            client.json("POST", "/answer", {"trial": trial, "side": "left"})

    people = [threading.Thread(target=person) for _ in range(8)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    (summary,) = rates.fooling(records.read(results.path))
    assert (summary.people, summary.answers) == (8, 32)


def test_an_answer_given_twice_at_once_is_recorded_once(results, monkeypatch):
    test = pairs(results)
    name = test.start()
    test.show(name, 0)
    sync, together, taken = records.os.fsync, threading.Barrier(4), []
    monkeypatch.setattr(records.os, "fsync", lambda file: (time.sleep(0.05), sync(file)))

    def answer():
        together.wait()
        with contextlib.suppress(sessions.Refused):
            taken.append(test.answer(name, {"trial": 0, "side": "left"}))

    hands = [threading.Thread(target=answer) for _ in range(4)]
    for one in hands:
        one.start()
    for one in hands:
        one.join()
    assert len(taken) == sum(r["what"] == "answer" for r in records.read(results.path)) == 1


def test_a_port_in_use_is_named(server):
    with pytest.raises(UserError, match=rf"port {server.server_address[1]} .* in use.*--port 0"):
        Server("127.0.0.1", server.server_address[1])
