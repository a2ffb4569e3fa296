"""The hub that other tests push to, asked by the client that users have."""

from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from processes import run_code

# The client's own way to upload.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "someone/tiny"
FILES = {
    "README.md": b"---\nlicense: apache-2.0\n---\n# Tiny\n",
    "model.safetensors": bytes(range(256)) * 40,
    "words/list.txt": b"lung\nliver\n",
}


@pytest.fixture
def hub(monkeypatch):
    # What the client reads from the environment when it is imported, which was long ago here.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HubServer() as hub:
        yield hub


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token="hf_token")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def pushed(hub, api, folder):
    """The hashes of two commits, the second of which has another word list."""
    api.create_repo(REPO)
    first = api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="First")
    (folder / "words" / "list.txt").write_bytes(b"heart\n")
    second = api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="Second")
    return first.oid, second.oid


@pytest.fixture
def download(hub, tmp_path):
    """The content of a file as a user without a token gets it, or with no name of one, those of all files."""

    def download(name=None, repo_id=REPO, revision=None):
        where = {"revision": revision, "cache_dir": tmp_path / "cache", "endpoint": hub.url, "token": False}
        if name:
            return Path(hf_hub_download(repo_id, name, **where)).read_bytes()
        root = Path(snapshot_download(repo_id, **where))
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return download


def test_a_folder_comes_back_as_it_was_at_each_commit(hub, pushed, download):
    first, second = pushed
    changed = {**FILES, "words/list.txt": b"heart\n"}
    for revision, expected in ((first, FILES), (second, changed), ("main", changed), (None, changed)):
        found = download(revision=revision)
        assert ".gitattributes" in found
        assert {name: found[name] for name in FILES} == expected
        assert hub.files(REPO, revision or "main") == found
    assert download("words/list.txt", revision=first) == b"lung\nliver\n"
    assert download("words/list.txt") == b"heart\n"


def test_commits_are_named_by_what_they_hold(hub, pushed):
    commits = hub.repos[REPO].commits
    assert [commit.message for commit in commits] == ["initial commit", "First", "Second"]
    assert [commit.sha for commit in commits[1:]] == list(pushed)
    assert len({commit.sha for commit in commits}) == 3 and all(len(commit.sha) == 40 for commit in commits)


def test_only_weights_go_by_lfs_and_only_once(hub, api, pushed, folder):
    assert [path.split("/")[1] for method, path in hub.requests if method == "PUT"] == ["lfs"]
    weights = {entry.path: entry.lfs for entry in api.list_repo_tree(REPO) if getattr(entry, "lfs", None)}
    assert list(weights) == ["model.safetensors"]
    assert weights["model.safetensors"].size == len(FILES["model.safetensors"])
    assert api.upload_folder(repo_id=REPO, folder_path=folder).oid == pushed[1]
    assert len(hub.repos[REPO].commits) == 3


def test_a_folder_is_pushed_in_the_background_without_what_is_to_be_ignored(hub, api, folder):
    for name in ("_hidden.txt", "checkpoint-2/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not for others")
    repo_id = api.create_repo("tiny", exist_ok=True).repo_id
    assert api.create_repo("tiny", exist_ok=True).repo_id == repo_id == REPO
    job = api.upload_folder(
        repo_id=repo_id, folder_path=folder, ignore_patterns=["_*", "checkpoint-*"], run_as_future=True
    )
    assert job.result().oid == api.model_info(repo_id).sha
    assert set(hub.files(repo_id)) == {".gitattributes", *FILES}


def test_tags_and_branches_are_revisions_too(api, pushed, download):
    first, second = pushed
    api.create_tag(REPO, tag="v1.0", revision=first)
    api.create_branch(REPO, branch="try/this")
    api.upload_file(repo_id=REPO, revision="try/this", path_or_fileobj=b"new", path_in_repo="new.txt")
    refs = api.list_repo_refs(REPO)
    assert {tag.name: tag.target_commit for tag in refs.tags} == {"v1.0": first}
    assert {branch.name for branch in refs.branches} == {"main", "try/this"}
    assert download("words/list.txt", revision="v1.0") == b"lung\nliver\n"
    assert download("new.txt", revision="try/this") == b"new"
    assert api.model_info(REPO).sha == second


def test_files_can_be_removed_and_folders_listed(hub, api, pushed, folder):
    assert [entry.path for entry in api.list_repo_tree(REPO, "words")] == ["words/list.txt"]
    api.delete_file("README.md", REPO)
    assert {entry.path for entry in api.list_repo_tree(REPO)} == {".gitattributes", "model.safetensors", "words"}
    assert set(api.list_repo_files(REPO)) == set(hub.files(REPO))


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ({"name": "other.txt"}, EntryNotFoundError),
        ({"name": "README.md", "revision": "v2.0"}, RevisionNotFoundError),
        ({"name": "README.md", "revision": "0" * 40}, RevisionNotFoundError),
        ({"name": "README.md", "repo_id": "someone/else"}, RepositoryNotFoundError),
        ({"repo_id": "tiny"}, RepositoryNotFoundError),
        ({"revision": "v2.0"}, RevisionNotFoundError),
    ],
)
def test_what_does_not_exist_is_named(pushed, download, place, error):
    with pytest.raises(error):
        download(**place)


def test_nobody_writes_without_a_token(hub, pushed, folder):
    stranger = HfApi(endpoint=hub.url, token=False)
    for write in (
        lambda: stranger.create_repo("someone/new"),
        lambda: stranger.upload_folder(repo_id=REPO, folder_path=folder),
        lambda: stranger.create_tag(REPO, tag="v1.0"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            write()
        assert refused.value.response.status_code == 401
    assert list(hub.repos) == [REPO] and hub.files(REPO)["words/list.txt"] == b"heart\n"


def test_a_commit_on_an_older_one_is_refused(api, pushed):
    with pytest.raises(HfHubHTTPError) as refused:
        api.upload_file(repo_id=REPO, path_or_fileobj=b"new", path_in_repo="new.txt", parent_commit=pushed[0])
    assert refused.value.response.status_code == 412


def test_a_pull_request_is_a_revision_of_its_own(hub, api, pushed, download):
    for number in (1, 2):
        content = f"new {number}".encode()
        made = api.upload_file(repo_id=REPO, path_or_fileobj=content, path_in_repo="new.txt", create_pr=True)
        assert made.pr_num == number and made.pr_revision == f"refs/pr/{number}"
        assert download("new.txt", revision=made.pr_revision) == content
    assert "new.txt" not in hub.files(REPO)
    assert [branch.name for branch in api.list_repo_refs(REPO).branches] == ["main"]


PUSH_AND_LOAD = """
import torch
from transformers import BertConfig, BertModel

sizes = {"vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
model = BertModel(BertConfig(**sizes))
first = model.push_to_hub("someone/tiny").oid
before = model.pooler.dense.bias.detach().clone()
torch.nn.init.ones_(model.pooler.dense.bias)
model.push_to_hub("someone/tiny", commit_message="Ones")
for revision, expected in ((first, before), ("main", torch.ones(4))):
    assert torch.equal(BertModel.from_pretrained("someone/tiny", revision=revision).pooler.dense.bias, expected)
print(first)
"""


@pytest.mark.slow
def test_transformers_pushes_a_model_and_loads_each_of_its_revisions(tmp_path):
    with HubServer() as hub:
        printed = run_code(PUSH_AND_LOAD, folder=tmp_path, environment=hub.environment(tmp_path))
    first = printed.splitlines()[-1]
    assert [commit.message for commit in hub.repos[REPO].commits] == ["initial commit", "Upload model", "Ones"]
    assert {"config.json", "model.safetensors", "README.md"} < set(hub.files(REPO, first))
    assert ("GET", f"/{REPO}/resolve/{first}/model.safetensors") in hub.requests
    assert (tmp_path / "hub" / "models--someone--tiny" / "snapshots" / first).is_dir()
