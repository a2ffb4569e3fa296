"""A Hugging Face Hub in memory: model repositories to push to and to load from, over a socket.

It speaks as much of the Hub's protocol as `huggingface_hub` needs for that, with LFS but without Xet. A client that has
Xet uploads by it, whatever a server says, unless `HF_HUB_DISABLE_XET=1` stops it: see `HubServer.environment`.
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

USER = "someone"
LFS_SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()

REPO = r"(?P<repo_id>[^/]+(?:/[^/]+)?)"
API = rf"/api/models/{REPO}"
REVISION = r"(?P<revision>[^/]+)"
ROUTES = []


def route(method, pattern, token=False):
    """Has a method of the server answer requests of this kind; with `token`, only those that bring one."""

    def register(function):
        ROUTES.append((method, re.compile(pattern), token, function))
        return function

    return register


class Refusal(Exception):
    """An answer other than 200; it is the code, not the status, by which the client picks what it raises."""

    def __init__(self, status, message, code="", headers=(), **details):
        super().__init__(message)
        self.answer = status, {"error": message, **details}, {"X-Error-Code": code, **dict(headers)}


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def tree_entry(path, data):
    """A file as the tree lists it: of one in LFS, git itself holds a pointer."""
    entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
    if path.endswith(LFS_SUFFIXES):
        sha256 = hashlib.sha256(data).hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()
        entry["oid"] = git_hash(pointer)
        entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": len(pointer)}
    return entry


def etag(entry):
    return entry.get("lfs", entry)["oid"]


@dataclass
class Commit:
    message: str
    files: dict[str, bytes]
    parent: str = ""

    def __post_init__(self):
        files = [f"{path} {git_hash(data)}" for path, data in sorted(self.files.items())]
        self.sha = hashlib.sha1("\n".join([self.parent, self.message, *files]).encode()).hexdigest()


@dataclass
class Repository:
    """All commits in the order in which they came, and names for some of them."""

    commits: list[Commit]
    branches: dict[str, Commit]
    tags: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision):
        """The commit that a branch, a tag or a full hash stands for."""
        found = {**{commit.sha: commit for commit in self.commits}, **self.tags, **self.branches}.get(revision)
        if found is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found


class HubServer(ThreadingHTTPServer):
    """Serves while its `with` block runs. `requests` lists the method and the path of all that was asked."""

    request_queue_size = 64  # a snapshot's files are all asked for at once

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = []
        self.repos = {}
        self.lfs = {}  # contents by their SHA-256; None, as long as one is announced only
        self.lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args):
        self.shutdown()
        self.server_close()

    def files(self, repo_id, revision="main"):
        return dict(self.repo(repo_id).at(revision).files)

    def environment(self, home):
        """Variables for a process that is to know no other hub, and no caches and tokens but those in `home`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        return {
            **kept,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_token",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1",  # a public service is asked for it, if all weights are pickles
            "no_proxy": "127.0.0.1",
        }

    def repo(self, repo_id):
        if repo_id not in self.repos:
            raise Refusal(404, "Repository not found", "RepoNotFound")
        return self.repos[repo_id]

    def answer(self, request, method, path):
        """What is to be sent: something for JSON, or bytes and their headers."""
        for expected, pattern, token, function in ROUTES:
            match = pattern.fullmatch(path)
            if match and method == expected:
                if token and not re.fullmatch(r"Bearer \S+", request.headers.get("Authorization", "")):
                    raise Refusal(401, "Invalid username or password.")
                return function(self, request, **{k: v and unquote(v) for k, v in match.groupdict().items()})
        raise Refusal(404, f"No {method} {path} here", "RepoNotFound")

    @route("GET", "/api/whoami-v2", token=True)
    def whoami(self, request):
        return {"type": "user", "name": USER, "orgs": []}

    @route("POST", "/api/repos/create", token=True)
    def create_repo(self, request):
        asked = json.loads(request.body)
        repo_id = f"{asked.get('organization') or USER}/{asked['name']}"
        url = f"{self.url}/{repo_id}"
        if asked.get("type", "model") != "model":
            raise Refusal(400, "Models only")
        if repo_id in self.repos:
            raise Refusal(409, "You already created this model repo", url=url)
        initial = Commit("initial commit", {".gitattributes": GIT_ATTRIBUTES})
        self.repos[repo_id] = Repository([initial], {"main": initial})
        return {"url": url, "name": repo_id}

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request):
        found = json.loads(request.body)["content"].startswith("---")
        return {"errors": [], "warnings": [] if found else [{"message": "empty or missing yaml metadata"}]}

    @route("POST", f"{API}/preupload/{REVISION}", token=True)
    def preupload(self, request, repo_id, revision):
        """Which files are for LFS, and the hashes of those here: the client leaves out what stays as it is."""
        now, answers = self.repo(repo_id).at(revision).files, []
        for path in (file["path"] for file in json.loads(request.body)["files"]):
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            oid = etag(tree_entry(path, now[path])) if path in now else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    @route("POST", rf"/{REPO}\.git/info/lfs/objects/batch", token=True)
    def announce(self, request, repo_id):
        """Gives out an address for each content that is not here yet."""
        self.repo(repo_id)
        objects = [{"oid": file["oid"], "size": file["size"]} for file in json.loads(request.body)["objects"]]
        for file in objects:
            if self.lfs.setdefault(file["oid"]) is None:
                file["actions"] = {"upload": {"href": f"{self.url}/lfs/{file['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    # As the address was given out to someone with a token, the client sends none along with the content.
    @route("PUT", "/lfs/(?P<sha256>[0-9a-f]{64})")
    def upload(self, request, sha256):
        if sha256 not in self.lfs or hashlib.sha256(request.body).hexdigest() != sha256:
            raise Refusal(403, "Not what was announced")
        self.lfs[sha256] = request.body
        return {}

    @route("POST", f"{API}/commit/{REVISION}", token=True)
    def commit(self, request, repo_id, revision):
        repo = self.repo(repo_id)
        parent = repo.at(revision)
        header, *operations = [json.loads(line) for line in request.body.splitlines()]
        if revision not in repo.branches or header["value"].get("parentCommit", parent.sha) != parent.sha:
            raise Refusal(412, "A commit follows the last one of a branch")
        files = dict(parent.files)
        for kind, value in ((operation["key"], operation["value"]) for operation in operations):
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile" and self.lfs.get(value["oid"]) is not None:
                files[value["path"]] = self.lfs[value["oid"]]
            elif kind == "deletedFile" and value["path"] in files:
                del files[value["path"]]
            else:
                raise Refusal(400, f"Can not do {kind} with {value['path']}")
        made = Commit(header["value"]["summary"], files, parent.sha)
        repo.commits.append(made)
        answer = {"success": True, "commitOid": made.sha, "commitUrl": f"{self.url}/{repo_id}/commit/{made.sha}"}
        if "create_pr" in request.query:
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.branches)
            revision = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.url}/{repo_id}/discussions/{number}"
        repo.branches[revision] = made
        return answer

    @route("POST", f"{API}/branch/(?P<branch>[^/]+)", token=True)
    def create_branch(self, request, repo_id, branch):
        repo = self.repo(repo_id)
        return self.name(repo.branches, branch, repo.at(json.loads(request.body).get("startingPoint", "main")))

    @route("POST", f"{API}/tag/{REVISION}", token=True)
    def create_tag(self, request, repo_id, revision):
        repo = self.repo(repo_id)
        return self.name(repo.tags, json.loads(request.body)["tag"], repo.at(revision))

    def name(self, names, name, commit):
        if name in names:
            raise Refusal(409, "Reference already exists")
        names[name] = commit
        return {}

    @route("GET", f"{API}/refs")
    def refs(self, request, repo_id):
        def listed(kind, names):
            return [{"name": k, "ref": f"refs/{kind}/{k}", "targetCommit": commit.sha} for k, commit in names.items()]

        repo = self.repo(repo_id)
        branches = {name: commit for name, commit in repo.branches.items() if not name.startswith("refs/")}
        return {"branches": listed("heads", branches), "tags": listed("tags", repo.tags), "converts": []}

    @route("GET", f"{API}/tree/{REVISION}(?:/(?P<folder>.+))?")
    def tree(self, request, repo_id, revision, folder):
        commit, entries = self.repo(repo_id).at(revision), {}
        start = f"{folder}/" if folder else ""
        for path, data in commit.files.items():
            child, *rest = path.removeprefix(start).split("/")
            if not path.startswith(start):
                continue
            if rest and request.query.get("recursive") != ["true"]:
                entries[child] = {"type": "directory", "path": start + child, "oid": git_hash(child.encode())}
            else:
                entries[path] = tree_entry(path, data)
        if folder and not entries:
            raise Refusal(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.sha})
        return list(entries.values())

    @route("GET", f"{API}(?:/revision/{REVISION})?")
    def info(self, request, repo_id, revision):
        commit = self.repo(repo_id).at(revision or "main")
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        return {"id": repo_id, "sha": commit.sha, "private": False, "tags": [], "siblings": siblings}

    @route("GET", f"/{REPO}/resolve/{REVISION}/(?P<path>.+)")
    def resolve(self, request, repo_id, revision, path):
        commit = self.repo(repo_id).at(revision)
        headers = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        entry = tree_entry(path, commit.files[path])
        headers["ETag"] = f'"{etag(entry)}"'
        if "lfs" in entry:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": entry["size"]}
        return commit.files[path], headers


class Handler(BaseHTTPRequestHandler):
    """One request. The base class speaks HTTP/1.0, so no connection is kept, and none outlives the server."""

    def respond(self):
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.requests.append((self.command, url.path))
            try:
                answer = self.server.answer(self, self.command.replace("HEAD", "GET"), url.path)
                status, content, headers = 200, *(answer if isinstance(answer, tuple) else (answer, {}))
            except Refusal as refusal:
                status, content, headers = refusal.answer
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = respond

    def log_message(self, *args):
        pass
