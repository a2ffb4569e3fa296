"""The server's answers to requests of every kind, without sockets."""

import json

import pytest
from serving_helpers import BOMB, Echo, base64_of, picture
from starlette.testclient import TestClient

from dualvqa_light import body, openapi, payload
from dualvqa_light.server import create_app
from dualvqa_light.server_settings import ServerSettings

RED, RED64 = picture(), base64_of(picture())
ROW = {"image": RED64, "question": "is it red?"}


@pytest.fixture(scope="module")
def app():
    return create_app("folder", ServerSettings(max_body_mib=0.25, max_questions=4), Echo)


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def goes_on(client):
    """After whatever a test sends, the next question has its answer."""
    yield
    assert client.post("/answer", json=ROW).json()[0]["answer"] == "is it red? (255, 0, 0)"


def asked(client, **content):
    found = client.post("/answer", json=content)
    assert found.status_code == 200, found.text
    return found.json()


def test_a_question_has_its_answers_and_a_list_of_them_a_list(client):
    (best,) = asked(client, **ROW)
    assert best == {"answer": "is it red? (255, 0, 0)", "score": 0.5, "question_type": "open_ended"}
    several = asked(client, image=RED64, question=["a", "b"], parameters={"top_k": 2})
    assert [[item["answer"][0] for item in best] for best in several] == [["a", "a"], ["b", "b"]]


@pytest.mark.parametrize(
    "content",
    [
        {"inputs": ROW},
        {"inputs": RED64, "question": ROW["question"], "image": RED64, "parameters": {"top_k": None}},
        {**ROW, "image": f"data:image/png;base64,{RED64}"},
    ],
    ids=["inference endpoints", "huggingface_hub's client", "data URL"],
)
def test_the_same_may_be_said_in_other_ways(client, content):
    assert asked(client, **content) == asked(client, **ROW)


def test_a_form_has_a_file_and_as_many_questions_as_it_likes(client):
    files = {"image": ("a.png", RED, "image/png")}
    found = client.post("/answer", files=files, data={"question": ["a", "b"], "top_k": "2", "abstain": "false"})
    assert [len(best) for best in found.json()] == [2, 2]
    assert client.post("/answer", files=files, data={"question": "is it red?"}).json() == asked(client, **ROW)
    assert client.post("/answer", files={"question": (None, "is it red?"), "image": (None, RED64)}).status_code == 200


def test_the_id_of_a_request_comes_back(client):
    ids = {name: client.post("/answer", json=ROW, headers={"X-Request-ID": name}) for name in ("a-7", "x" * 129, "a b")}
    assert {name: found.headers.get("x-request-id") for name, found in ids.items()} == {
        "a-7": "a-7",
        "x" * 129: None,
        "a b": None,
    }


JSON = {"Content-Type": "application/json"}
NOT_JSON = {
    "empty": b"",
    "cut": b'{"image": "',
    "no UTF-8": b'{"image": "\xff"}',
    "NaN": b'{"parameters": {"top_k": NaN}}',
    "infinity": b'{"parameters": {"top_k": -Infinity}}',
    "twice": b'{"image": "a", "image": "b"}',
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 40_000,
    "long number": b'{"parameters": {"top_k": ' + b"9" * 10_000 + b"}}",
}


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_is_400(client, content):
    found = client.post("/answer", content=content, headers=JSON)
    assert found.status_code == 400 and found.json()["error"].startswith("expected JSON")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "found a list of 0 in place of an object"),
        ({}, "found null as image"),
        ({**ROW, "image": 5}, "found 5 as image"),
        ({**ROW, "image": {"path": "/etc/passwd"}}, "found an object as image"),
        ({**ROW, "image": "/etc/passwd"}, "paths are not allowed here"),
        ({**ROW, "image": "../../etc/passwd"}, "paths are not allowed here"),
        ({**ROW, "image": "file:///etc/passwd"}, "http and https are read"),
        ({**ROW, "image": "http://127.0.0.1/a.png"}, "URLs are not allowed here"),
        ({**ROW, "image": "data:image/png;base64,@"}, "no base64"),
        ({**ROW, "image": base64_of(b"text" * 30)}, "no image"),
        ({**ROW, "image": BOMB}, "9000 x 9000 pixels"),
        ({"image": RED64}, "found null as question"),
        ({**ROW, "question": ""}, "expected a question as text, found ''"),
        ({**ROW, "question": []}, "expected 1 to 4 questions about an image, found 0"),
        ({**ROW, "question": ["a"] * 5}, "expected 1 to 4 questions about an image, found 5"),
        ({**ROW, "question": ["a", None]}, "found null as question"),
        ({**ROW, "question": "a" * 100_000}, "at most 10,000 characters, found 100,000"),
        ({**ROW, "question": "\ud800"}, "lone surrogate"),
        ({**ROW, "other": 1}, "found 'other'"),
        ({**ROW, "parameters": [1]}, "expected parameters as an object, found a list of 1"),
        ({**ROW, "parameters": {"timeout": 9}}, "parameters may have top_k"),
        ({**ROW, "parameters": {"top_k": True}}, "expected top_k to be a whole number from 1, found true"),
        ({**ROW, "parameters": {"top_k": 0}}, "expected top_k to be a whole number from 1, found 0"),
        ({**ROW, "parameters": {"question_type": []}}, "expected question_type to be binary or open_ended"),
        ({**ROW, "parameters": {"abstain": "yes"}}, "expected abstain to be true or false, found the text 'yes'"),
        ({**ROW, "parameters": {"abstain": True}}, "needs a threshold"),
        ({**ROW, "parameters": {"group": "HEAD"}}, "no promises by group, found group='HEAD'"),
        ({**ROW, "parameters": {"evidence": 0}}, "expected evidence to be a whole number from 1 to 30, found 0"),
        ({**ROW, "parameters": {"evidence": 31}}, "expected evidence to be a whole number from 1 to 30, found 31"),
        ({**ROW, "parameters": {"evidence": 2}}, "this folder has none: export a model with a memory and its texts"),
    ],
)
def test_what_cannot_be_used_is_422_and_says_what_was_expected(client, content, said):
    found = client.post("/answer", content=json.dumps(content), headers=JSON)
    assert found.status_code == 422 and said in found.json()["error"], found.text


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        ({"question": (None, "a")}, 422, "found null as image"),
        ([("image", RED), ("image", RED)], 400, "Too many files"),
        ([("image", (None, RED64)), ("image", (None, RED64))], 422, "expected image once, found it 2 times"),
        ([("image", RED), ("top_k", (None, "1")), ("top_k", (None, "2"))], 422, "expected top_k once"),
        ({"image": RED, "question": (None, "a"), "top_k": (None, "many")}, 422, "found the text 'many'"),
        ({"image": RED, "question": (None, "a"), "evidence": (None, "2")}, 422, "this folder has none"),
        ({"image": (None, RED), "question": (None, "a")}, 422, "found a text field of other letters (curl: image=@"),
        ({"question": ("a.txt", b"a"), "image": (None, RED64)}, 422, "expected question as a text, found a file"),
        ({"top_k": ("a.txt", b"3"), "image": (None, RED64)}, 422, "expected top_k as a text, found a file"),
        ({"image": RED, "path": (None, "/etc/passwd")}, 422, "found 'path'"),
        ([("image", RED), *[("question", (None, "a"))] * 12], 400, "Too many fields"),
        ({"image": RED, "question": (None, "a" * 70_000)}, 400, "maximum size"),
    ],
)
def test_forms_of_another_kind_are_refused(client, files, status, said):
    found = client.post("/answer", files=files)
    assert found.status_code == status and said in found.json()["error"], found.text


@pytest.mark.parametrize("content", [b"", b"--x\r\n", b"--y\r\nContent-Disposition: form-data\r\n\r\n"])
def test_a_damaged_form_is_told(client, content):
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data"):
        found = client.post("/answer", content=content, headers={"Content-Type": kind})
        assert found.status_code in (400, 422) and "expected" in found.json()["error"]


@pytest.mark.parametrize(
    ("kind", "encoding"), [("text/plain", "identity"), ("", "identity"), ("application/json", "gzip")]
)
def test_other_kinds_of_bodies_are_415(client, kind, encoding):
    found = client.post("/answer", content=b"{}", headers={"Content-Type": kind, "Content-Encoding": encoding})
    assert found.status_code == 415 and "expected" in found.json()["error"]


def test_a_body_that_is_too_large_is_413_by_its_length_and_as_it_comes(client, monkeypatch):
    monkeypatch.setattr(body, "DRAIN_SECONDS", 0.05)

    def chunks():
        for _ in range(5):
            yield b"a" * 2**16

    for content in (b"a" * 2**19, chunks()):
        found = client.post("/answer", content=content, headers=JSON)
        assert found.status_code == 413 and "at most 262144 bytes" in found.json()["error"]
        assert found.headers["connection"] == "close"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_other_methods_are_405(client, method):
    found = client.request(method, "/answer")
    assert found.status_code == 405 and found.headers["allow"] == "POST"
    assert method == "HEAD" or found.json()["error"].endswith(f"/docs and /openapi.json; found {method} /answer")


def test_unknown_paths_are_404_and_say_what_there_is(client):
    for path in ("/", "/../../etc/passwd", "/answer/..%2f..%2fetc/passwd", "/docs/x"):
        found = client.get(path)
        assert found.status_code == 404
        assert found.json()["error"].startswith("expected POST /answer; GET /health, /ready, /docs and")
    assert client.get("/").json()["error"].endswith("; found GET /")


ORIGIN, OTHER = "https://a.org", "https://b.org"


def test_pages_of_other_origins_see_answers_only_where_they_are_allowed(client):
    assert "access-control-allow-origin" not in client.post("/answer", json=ROW, headers={"Origin": ORIGIN}).headers
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-request-id"}
    with TestClient(create_app("folder", ServerSettings(allow_origins=(ORIGIN,)), Echo)) as opened:
        for origin, status, shown in ((ORIGIN, 200, ORIGIN), (OTHER, 400, None)):
            before = opened.options("/answer", headers={"Origin": origin, **asked})
            assert before.status_code == status and before.headers.get("access-control-allow-origin") == shown
            # Errors as well, also those of ours: a page is to tell what is wrong.
            for content, status in ((ROW, 200), ({}, 422), ({**ROW, "question": "crash"}, 500)):
                found = opened.post("/answer", json=content, headers={"Origin": origin})
                assert found.status_code == status
                assert found.headers.get("access-control-allow-origin") == shown


def test_an_error_of_ours_is_500_and_says_nothing_of_the_inside(client):
    found = client.post("/answer", json={**ROW, "question": "crash"})
    assert found.status_code == 500 and found.json() == {"error": "the server failed; its log says how"}


def test_one_request_too_many_is_503_and_told_when_to_come_again(client, app):
    server = app.state.server
    server.busy += server.settings.max_requests
    try:
        for found in (client.post("/answer", json=ROW), client.get("/ready")):
            assert found.status_code == 503 and found.headers["retry-after"] == "1" and found.json()["error"]
        assert client.get("/health").json() == {"status": "ok"}
    finally:
        server.busy -= server.settings.max_requests
    assert client.get("/ready").json() == {"status": "ready", "requests": 0}


def test_an_answer_that_takes_too_long_is_504(monkeypatch):
    app = create_app("folder", ServerSettings(answer_seconds=0.1), Echo)
    pipe = app.state.server.batcher.steps.pipe
    with TestClient(app) as client:
        pipe.gate.clear()
        found = client.post("/answer", json=ROW)
        pipe.gate.set()
        assert found.status_code == 504 and "within 0.1 seconds" in found.json()["error"]
        assert client.post("/answer", json=ROW).status_code == 200
    assert client.post("/answer", json=ROW).status_code == 503  # it has been stopped


def test_the_page_needs_nothing_from_elsewhere_and_the_document_says_what_is_understood(client):
    page, document = client.get("/docs"), client.get("/openapi.json").json()
    assert page.headers["content-type"].startswith("text/html") and "https://" not in page.text
    assert "white-space: pre-wrap" in page.text  # on a phone the schema isn't cut at the edge
    answer = document["paths"]["/answer"]["post"]
    assert set(answer["responses"]) == {"200", *openapi.ERRORS}
    assert set(openapi.PARAMETERS) == set(payload.PARAMETERS)
    assert answer["requestBody"]["content"]["application/json"]["schema"]["properties"]["parameters"]["properties"]
    assert "262,144 bytes" in json.dumps(document) and '"maxItems": 4' in json.dumps(document)


def test_the_client_of_huggingface_hub_understands_the_answers(client, monkeypatch):
    from huggingface_hub import InferenceClient

    def post(parameters, **kwargs):
        return client.post("/answer", content=parameters.data, headers=parameters.headers).content

    inference = InferenceClient("http://localhost:8000/answer")
    monkeypatch.setattr(inference, "_inner_post", post)
    (best,) = inference.visual_question_answering(RED, "is it red?")
    assert best.answer == "is it red? (255, 0, 0)" and best.score == 0.5


def test_a_folder_that_does_not_answer_is_told_at_once():
    class Broken(Echo):
        def answer(self, items, options):
            raise ValueError("logits that aren't finite")

    with pytest.raises(ValueError, match="aren't finite"):
        create_app("folder", open_folder=Broken)
