"""The JSON API: its verbs, its errors, and nothing without the token."""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections import defaultdict
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from atlas.scheduler.clock import SystemClock
from atlas.service import AtlasScheduler
from atlas.web import create_app
from atlas.web.access import Brake
from atlas.web.api import VERBS
from atlas.web.api.answers import ANSWERS
from atlas.web.api.refusals import CODES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from atlas.settings import Settings

EXAMPLES = 8
CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """An installation with one job."""
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    return settings


def test_the_verbs_work_with_the_token_and_refuse_without(settings: Settings) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        client = TestClient(create_app(atlas), base_url="http://127.0.0.1")
        assert client.get("/api/v1/jobs").status_code == 401
        assert client.post("/api/v1/jobs/health/run").status_code == 401
        assert settings.web.token_file is not None
        client.headers["authorization"] = f"Bearer {settings.web.token_file.read_text().strip()}"
        assert [job["id"] for job in client.get("/api/v1/jobs").json()["items"]] == ["health"]
        assert client.get("/api/v1/jobs/health").json()["success_rate"] is None  # nothing was tried yet
        assert client.get("/api/v1/metrics").json()["success_rate"] is None
        task = client.post("/api/v1/jobs/health/run", json={}).json()["task"]
        atlas.queue.sync.get_task_result(task, timeout=20)
        assert client.get(f"/api/v1/tasks/{task}").json()["status"] == "SUCCESS"
        assert client.post(f"/api/v1/tasks/{task}/retry").status_code == 200
        assert client.get("/api/v1/audit").json()["items"][0]["actor"] == "api"
        unknown = client.get("/api/v1/jobs/nosuch")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_job")
        refused = client.post("/api/v1/tasks", json={"function": "os:system", "args": ["true"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unknown_function")
        assert client.post("/api/v1/tasks", content=b"[" * 9000).status_code == 400
        assert client.get("/api/v1/tasks?limit=0").status_code == 400
        pause, resume = "/api/v1/jobs/pause", "/api/v1/jobs/resume"
        assert client.post(pause, json={"jobs": ["health"], "reason": "move"}).json() == {"paused": 1}
        assert client.post(pause, json={"all": True}).json() == {
            "paused": 0
        }  # it is paused already, and keeps its reason
        assert client.get("/api/v1/jobs/health").json()["pause"]["reason"] == "move"
        assert client.post(resume, json={"all": True}).json() == {"resumed": 1}
        assert client.post(pause, json={"jobs": ["health", "nosuch"]}).status_code == 404
        for vague in ("{}", '{"all": false}', '{"jobs": []}', '{"jobs": ["health"], "all": true}'):
            assert client.post(pause, content=vague).status_code == 400


def test_a_task_is_submitted_with_its_policy(settings: Settings) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        body = {
            "function": "health",
            "task_id": "mine/1",
            "name": "看一看",
            "priority": "LOW",
            "timeout": 12.5,
            "max_retries": 1,
            "executor": "thread",
            "on_crash": "fail",
        }
        assert client.post("/api/v1/tasks", json=body).json() == {"task": "mine/1"}
        task = atlas.status.get_task("mine/1")
        assert (task.name, task.priority.name, task.policy.timeout_s) == ("看一看", "LOW", 12.5)
        assert (task.policy.retry.max_retries, task.policy.executor, task.policy.on_crash) == (1, "thread", "fail")
        twice = client.post("/api/v1/tasks", json=body)
        assert (twice.status_code, twice.json()["error"]["code"]) == (409, "duplicate_task")
        without = client.post("/api/v1/tasks", json={"function": "health", "timeout": None}).json()["task"]
        assert atlas.status.get_task(without).policy.timeout_s is None
        usual = client.post("/api/v1/tasks", json={"function": "health"}).json()["task"]
        assert atlas.status.get_task(usual).policy.timeout_s == settings.scheduler.task_timeout
        for wrong in ({"priority": "low"}, {"timeout": 0}, {"max_retries": -1}, {"executor": "gpu"}, {"task_id": ""}):
            assert client.post("/api/v1/tasks", json={"function": "health", **wrong}).status_code == 400, wrong


def test_every_object_of_the_description_is_closed_and_every_answer_keeps_to_it(settings: Settings) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        task = client.post("/api/v1/jobs/health/run").json()["task"]
        atlas.queue.sync.get_task_result(task, timeout=20)
        client.post("/api/v1/jobs/health/pause", json={"reason": "x"})
        schemas = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
        open_ones = {name for name, one in schemas.items() if one.get("additionalProperties") is not False}
        assert {name for name in open_ones if "enum" not in schemas[name]} == {"Why", "JobsSchema"}
        path = {"{job}": "health", "{task}": task, "{number}": "1"}
        query = {"/diff": "?a=1&b=1", "/explain": "?expression=0 9 * * *"}
        for verb in VERBS:
            if verb.method == "GET" or verb.path in {"/check", "/plan"}:
                address = reduce(lambda text, name: text.replace(name, path[name]), path, verb.path)
                body = {"json": {"text": CHECKED}} if verb.method == "POST" else {}
                answer = client.request(verb.method, f"/api/v1{address}{query.get(verb.path, '')}", **body)
                assert answer.status_code == 200, (verb.path, answer.text)
                ANSWERS[verb.name].model_validate(answer.json(), strict=False)


def test_a_read_only_site_checks_and_plans_and_changes_nothing(settings: Settings) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        client = TestClient(create_app(atlas, read_only=True), base_url="http://127.0.0.1")
        client.headers.update(signed_in(atlas).headers)
        assert client.post("/api/v1/check", json={"text": CHECKED}).json()["ok"] is True
        assert client.post("/api/v1/plan", json={"text": CHECKED}).json()["changed"] == 1
        form = {"text": CHECKED}
        assert client.post("/config", data=form).status_code == 200
        for verb in VERBS:
            if verb.method == "POST" and verb.path not in {"/check", "/plan"}:
                answer = client.post("/api/v1" + re.sub(r"{\w+}", "health", verb.path), json=form)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only"), verb.path
        assert client.post("/act/apply", data=form).status_code == 403
        assert atlas.reconciler.latest_revision() is not None
        assert [one.number for one in [atlas.reconciler.latest_revision()] if one] == [1]


CHECKED = '{"cron_jobs": {"health": {"cron_expression": "0 3 * * *"}}}'


def test_the_config_is_checked_planned_applied_compared_and_rolled_back(settings: Settings) -> None:
    file = settings.persistence.cron_config
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        broken = client.post("/api/v1/check", json={"text": '{"cron_jobs": {"a": {"cron_expression": "61 * * * *"}}}'})
        assert broken.json()["ok"] is False
        assert "minute 61" in str(broken.json()["problems"])
        refused = client.post("/api/v1/apply", json={"text": "{"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "config_refused")
        assert client.post("/api/v1/check", json={"text": CHECKED}).json()["jobs"] == ["health"]
        assert client.post("/api/v1/plan", json={"text": CHECKED}).json()["changed"] == 1
        assert "@yearly" in file.read_text()
        applied = client.post("/api/v1/apply", json={"text": CHECKED}).json()
        assert (applied["revision"], applied["changed"]) == (2, 1)
        assert file.read_text() == CHECKED
        newest = client.get("/api/v1/revisions?limit=1").json()
        assert (newest["items"][0]["number"], newest["items"][0]["author"], newest["next"]) == (2, "api", 2)
        older = client.get(f"/api/v1/revisions?before={newest['next']}").json()
        assert [one["number"] for one in older["items"]] == [1]
        assert client.get("/api/v1/revisions/2").json()["text"] == CHECKED
        told = client.get("/api/v1/diff?a=1&b=2").json()
        assert [(one["id"], one["kind"]) for one in told["jobs"]] == [("health", "~")]
        assert told["lines"][0] == "--- revision 1"
        assert client.post("/api/v1/rollback", json={"number": 1}).json()["revision"] == 3
        assert "@yearly" in file.read_text()
        unknown = client.get("/api/v1/revisions/99")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_revision")


def test_what_is_asked_about_times_health_and_pages_of_tasks(settings: Settings) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        made = [client.post("/api/v1/jobs/health/run").json()["task"]]
        atlas.queue.sync.get_task_result(made[0], timeout=20)
        for _ in range(4):
            made.append(client.post(f"/api/v1/tasks/{made[0]}/retry").json()["task"])
            atlas.queue.sync.get_task_result(made[-1], timeout=20)
        seen: list[str] = []
        after = ""
        while True:
            page = client.get(f"/api/v1/tasks?limit=2{after}").json()
            seen += [task["id"] for task in page["items"]]
            if page["next"] is None:
                break
            after = f"&before={page['next']}"
        assert seen == made[::-1]
        assert client.get("/api/v1/tasks?until=2020-01-01T00:00:00Z").json()["items"] == []
        assert client.get("/api/v1/tasks?since=2020-01-01").status_code == 400
        assert client.get("/api/v1/tasks?before=nonsense").status_code == 422
        assert client.get("/api/v1/jobs/health/why").json()["verdict"] == "ran"
        explained = client.get("/api/v1/jobs/health/explain?count=3").json()
        assert len(explained["next"]) == 3
        assert client.get("/api/v1/explain?expression=0 9 * * mon-fri").json()["words"]["zh"]
        assert client.get("/api/v1/explain?expression=0 99 * * *").status_code == 422
        assert client.get("/api/v1/forecast?hours=8760").json()["tasks"] == 1
        assert {check["name"] for check in client.get("/api/v1/health").json()["checks"]} >= {"store", "queue"}
        past = client.post("/api/v1/jobs/health/pause", json={"until": "2020-01-01T00:00:00Z"})
        assert past.status_code == 422
        until = "2099-01-01T00:00:00+00:00"
        assert client.post("/api/v1/jobs/health/pause", json={"until": until, "reason": "维护"}).status_code == 200
        assert "维护" in client.get("/api/v1/jobs/health").text
        assert client.post("/api/v1/jobs/health/resume").json() == {"resumed": True}


@pytest.mark.parametrize(
    "body",
    [b'{"text": "\\u0000"}', b'{"text": "\\ud800"}', b'{"text": NaN}', b'{"text": 1e999}', b'{"txt": ""}', b"[]"],
    ids=["nul", "half", "nan", "infinite", "unknown", "list"],
)
def test_a_body_that_cannot_be_meant_is_refused(settings: Settings, body: bytes) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        answer = signed_in(atlas).post("/api/v1/check", content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_letters_that_only_look_like_a_nul_are_text(settings: Settings) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        client, reason = signed_in(atlas), r"what matches [\u0000-\u001f] is refused: \\u0000"
        assert client.post("/api/v1/jobs/health/pause", json={"reason": reason}).status_code == 200
        assert client.get("/api/v1/jobs/health").json()["pause"]["reason"] == reason
        for nul in ("\0", "\\\0", {"\0": 1}):
            assert client.post("/api/v1/jobs/health/run", json={"args": [nul]}).status_code == 400


def test_without_the_token_every_route_asks_for_it(settings: Settings) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        app = create_app(atlas)
        client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        asked = set()
        for route in app.routes:
            if not isinstance(route, Route) or route.path in {"/healthz", "/readyz", "/sign-in", "/favicon.ico"}:
                continue
            path = re.sub(r"{\w+(:\w+)?}", "health", route.path)
            for method in (route.methods or set()) - {"HEAD"}:
                answer = client.request(method, path)
                assert answer.status_code == 401 or answer.headers["location"].startswith("/sign-in"), (method, path)
                assert "health" not in answer.text, (method, path)
                asked.add(path)
        assert {"/", "/metrics", "/live", "/act/apply", "/api/v1/apply", "/api/v1/openapi.json"} <= asked
        assert atlas.status.get_tasks() == []


def test_no_example_of_the_description_breaks_the_api(settings: Settings) -> None:
    """Schemathesis: right and wrong values for every operation of the mounted app, none answered 5xx."""
    with AtlasScheduler(settings).in_thread() as atlas:
        known = {"job": "health", "task": atlas.cron.sync.run_job_now("health"), "number": "1"}
        atlas.queue.sync.get_task_result(known["task"], timeout=20)
        site = create_app(atlas)
        site.state.site.changes = Brake(1_000_000, 1.0, SystemClock())
        token = (settings.web.token_file or Path()).read_text().strip()
        headers = {"host": "127.0.0.1", "authorization": f"Bearer {token}"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mounted = Starlette(routes=[Mount("/atlas", site)])
            schema = schemathesis.openapi.from_asgi("/atlas/api/v1/openapi.json", mounted, headers=headers)
            told, statuses = set(), defaultdict[str, set[int]](set)
            for found in schema.get_all_operations():
                assert isinstance(found, Ok)
                operation = found.ok()
                told.add((operation.method.upper(), operation.path))

                for mode in GenerationMode:
                    names = known if mode is GenerationMode.POSITIVE else {}
                    name = f"{operation.method.upper()} {operation.path}"
                    statuses[name] |= seen_of(operation.as_strategy(generation_mode=mode), names, headers)
        refused_all = {name for name, seen in statuses.items() if 200 not in seen}
        assert refused_all <= {
            "POST /jobs/pause",
            "POST /jobs/resume",
            "POST /tasks",
            "POST /plan",
            "POST /apply",
            "POST /rollback",
            "GET /diff",
            "GET /explain",
        }
        assert told == {(verb.method, verb.path) for verb in VERBS}


def test_every_refusal_is_described_with_its_codes(settings: Settings) -> None:
    """Each code of each status, as the routes really answer it, is one the description names for that operation."""
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        described = client.get("/api/v1/openapi.json").json()
        stranger = TestClient(client.app, base_url="http://127.0.0.1")
        browser = {"origin": "http://evil.example"}
        task = client.post("/api/v1/tasks", json={"function": "health"}).json()["task"]
        atlas.queue.sync.get_task_result(task, timeout=20)
        go = threading.Event()
        atlas.registry.add("hold", lambda: go.wait(60))
        held = client.post("/api/v1/tasks", json={"function": "hold"}).json()["task"]
        bad = {"text": "{"}
        found = [
            ("/jobs/{job}", client.get("/api/v1/jobs/nope"), 404, "unknown_job"),
            ("/tasks/{task}", client.get("/api/v1/tasks/nope"), 404, "unknown_task"),
            ("/revisions/{number}", client.get("/api/v1/revisions/7"), 404, "unknown_revision"),
            ("/diff", client.get("/api/v1/diff?a=1&b=9"), 404, "unknown_revision"),
            ("/tasks", client.get("/api/v1/tasks?limit=0"), 400, "bad_request"),
            ("/tasks", client.get("/api/v1/tasks?before=x"), 422, "refused"),
            ("/explain", client.get("/api/v1/explain?expression=x"), 422, "refused"),
            ("/queue", stranger.get("/api/v1/queue"), 401, "sign_in"),
            ("/queue", stranger.get("/api/v1/queue", headers={"authorization": "Bearer x"}), 401, "wrong_token"),
            ("/apply", client.post("/api/v1/apply", json=bad), 422, "config_refused"),
            ("/apply", client.post("/api/v1/apply", content=b"x" * 9_000_000), 413, "too_large"),
            ("/apply", client.post("/api/v1/apply", json=bad, headers=browser), 403, "foreign_origin"),
            ("/tasks", client.post("/api/v1/tasks", json={"function": "nope"}), 422, "unknown_function"),
            (
                "/tasks",
                client.post("/api/v1/tasks", json={"function": "health", "task_id": task}),
                409,
                "duplicate_task",
            ),
            ("/tasks/{task}/retry", client.post(f"/api/v1/tasks/{held}/retry"), 409, "task_unfinished"),
        ]
        client.app.state.site.changes = Brake(1, 60.0, SystemClock())  # type: ignore[attr-defined]
        client.post("/api/v1/tasks", json={})
        found.append(("/tasks", client.post("/api/v1/tasks", json={}), 429, "too_many"))
        go.set()
    found.append(("/jobs", client.get("/api/v1/jobs"), 503, "stopped"))
    for path, answer, status, code in found:
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path
        pointer = described["paths"][path][answer.request.method.lower()]["responses"][str(status)]["$ref"]
        response = described["components"]["responses"][pointer.rpartition("/")[2]]
        body = response["content"]["application/json"]["schema"]["allOf"][1]
        assert code in body["properties"]["error"]["properties"]["code"]["enum"]
        assert ("retry-after" in answer.headers) is ("headers" in response)


def test_what_the_state_of_things_forbids_is_a_conflict_with_a_code_of_its_own(settings: Settings) -> None:
    daily = {"cron_expression": "0 3 * * *", "function": "hold"}
    jobs = {"held": daily, "off": {**daily, "enabled": False}, "gone": {**daily, "function": "not_here"}}
    settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": jobs}))
    go = threading.Event()
    atlas = AtlasScheduler(settings)
    atlas.registry.add("hold", lambda: go.wait(60))
    with atlas.in_thread():
        client = signed_in(atlas)
        task = client.post("/api/v1/jobs/held/run").json()["task"]
        mine = {"function": "health", "task_id": task}
        conflicts = [
            ("/jobs/held/run", {}, "job_busy"),
            ("/jobs/gone/run", {}, "job_unbound"),
            ("/jobs/off/resume", {}, "job_ownership"),
            (f"/tasks/{task}/retry", {}, "task_unfinished"),
            ("/tasks", mine, "duplicate_task"),
        ]
        for path, body, code in conflicts:
            answer = client.post(f"/api/v1{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, code), path
            assert answer.json()["error"].keys() == {"code", "message", "detail"}
        go.set()
        atlas.queue.sync.get_task_result(task, timeout=20)
        assert client.post(f"/api/v1/tasks/{task}/retry").status_code == 200
        assert client.post(f"/api/v1/tasks/{task}/cancel").json() == {"cancelled": False}


@pytest.mark.parametrize("path", ["/act/apply", "/api/v1/apply", "/api/v1/check"])
def test_a_large_config_is_read_and_a_larger_one_is_not(settings: Settings, path: str) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        assert client.post(path, content=b"x" * 300_000).status_code in {400, 415}
        assert client.post(path, content=b"x" * 9_000_000).status_code == 413


def seen_of(cases: Any, names: dict[str, str], headers: dict[str, str]) -> set[int]:
    """Call some cases, with ``names`` in their paths; the statuses they were answered."""
    seen = set()

    @given(case=cases)
    @hypothesis_settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None)
    def holds(case: schemathesis.Case[Any]) -> None:
        for name in (case.path_parameters or {}).keys() & names.keys():
            case.path_parameters[name] = names[name]
        answer = case.call(headers=headers)
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] in CODES[answer.status_code]
        seen.add(answer.status_code)

    holds()
    return seen


def signed_in(atlas: AtlasScheduler) -> TestClient:
    """A program with the token."""
    client = TestClient(create_app(atlas), base_url="http://127.0.0.1")
    token_file = atlas.settings.web.token_file
    assert token_file is not None
    client.headers["authorization"] = f"Bearer {token_file.read_text().strip()}"
    return client
