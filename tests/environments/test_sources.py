"""Where packages come from, and which secrets of that nobody sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.environments.requirements import Options
from hpcest.environments.secrets import Veil, expand, strip
from hpcest.environments.sources import gather
from hpcest.errors import SpecError

NO_FILES = {"PIP_CONFIG_FILE": "/dev/null"}


def test_nothing_said_is_nothing_set() -> None:
    sources = gather(Options(), NO_FILES)
    assert (sources.index_url, sources.extra_index_urls, sources.find_links, sources.no_index) == ("", (), (), False)
    env = sources.variables(NO_FILES)
    assert not {"UV_DEFAULT_INDEX", "PIP_INDEX_URL", "UV_INDEX", "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_FIND_LINKS"} & env.keys()


def test_settings_of_pip_reach_uv() -> None:
    variables = {
        **NO_FILES,
        "PIP_INDEX_URL": "https://a",
        "PIP_EXTRA_INDEX_URL": "https://b https://c",
        "PIP_FIND_LINKS": "/wheels https://d",
    }
    env = gather(Options(), variables).variables(variables)
    assert env["UV_DEFAULT_INDEX"] == "https://a"
    assert env["UV_INDEX"] == "https://b https://c"
    assert env["UV_FIND_LINKS"] == "file:///wheels,https://d"


def test_settings_of_uv_are_stronger_and_reach_pip() -> None:
    variables = {**NO_FILES, "PIP_INDEX_URL": "https://pip", "UV_DEFAULT_INDEX": "https://uv", "UV_INDEX": "mine=https://x"}
    env = gather(Options(), variables).variables(variables)
    assert env["UV_DEFAULT_INDEX"] == env["PIP_INDEX_URL"] == "https://uv"
    assert env["UV_INDEX"] == "mine=https://x"
    assert env["PIP_EXTRA_INDEX_URL"] == "https://x"


def test_old_names_of_uv_are_understood() -> None:
    variables = {**NO_FILES, "UV_INDEX_URL": "https://old", "UV_EXTRA_INDEX_URL": "https://more"}
    env = gather(Options(), variables).variables(variables)
    assert env["UV_DEFAULT_INDEX"] == "https://old"
    assert env["UV_INDEX"] == "https://more"
    assert "UV_INDEX_URL" not in env


def test_the_request_replaces_the_index_and_adds_the_rest() -> None:
    variables = {**NO_FILES, "PIP_INDEX_URL": "https://a", "PIP_EXTRA_INDEX_URL": "https://b"}
    sources = gather(Options(index_url="https://mine", extra_index_urls=("https://more",)), variables)
    assert sources.index_url == "https://mine"
    assert sources.extra_index_urls == ("https://more", "https://b")


def test_pip_configuration_files_count_in_the_order_of_pip(tmp_path: Path, own_home: Path) -> None:
    user = own_home / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex-url = https://user\nextra_index_url =\n  https://one\n  https://two\n[install]\nno-index = yes\n")
    named = tmp_path / "named.conf"
    named.write_text("[global]\nindex-url = https://named\n")
    assert gather(Options(), {}).index_url == "https://user"
    sources = gather(Options(), {"PIP_CONFIG_FILE": str(named)})
    assert sources.index_url == "https://named"
    assert sources.extra_index_urls[:2] == ("https://one", "https://two")
    assert sources.no_index
    assert gather(Options(), {"PIP_CONFIG_FILE": str(named), "PIP_INDEX_URL": "https://env"}).index_url == "https://env"


def test_a_damaged_pip_configuration_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_bytes(b"index-url = before any section\n\xff")
    gather(Options(), {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})


def test_an_index_that_uv_was_given_is_not_replaced_by_that_of_pip(own_home: Path) -> None:
    settings = own_home / ".config" / "uv" / "uv.toml"
    settings.parent.mkdir(parents=True)
    variables = {**NO_FILES, "PIP_INDEX_URL": "https://pip"}
    settings.write_text("compile-bytecode = true\n")
    assert gather(Options(), variables).index_url == "https://pip"
    settings.write_text('[[index]]\nurl = "https://uv"\n')
    assert gather(Options(), variables).index_url == ""
    assert gather(Options(index_url="https://mine"), variables).index_url == "https://mine"


def test_the_tools_keep_the_user_s_settings_and_lose_what_aims_elsewhere() -> None:
    variables = {
        **NO_FILES,
        "HTTPS_PROXY": "p",
        "PIP_CERT": "c",
        "UV_CACHE_DIR": "u",
        "PYTHONPATH": "x",
        "PIP_TARGET": "t",
        "PIP_USER": "1",
    }
    env = gather(Options(), variables).variables(variables)
    assert (env["HTTPS_PROXY"], env["PIP_CERT"], env["UV_CACHE_DIR"]) == ("p", "c", "u")
    assert not {"PYTHONPATH", "PIP_TARGET"} & env.keys()
    assert env["PIP_USER"] == "0"
    assert env["UV_PYTHON_DOWNLOADS"] == "never"
    assert env["UV_SYSTEM_CERTS"] == env["UV_NATIVE_TLS"] == "1"


@pytest.mark.parametrize("name", ["UV_SYSTEM_CERTS", "UV_NATIVE_TLS"])
def test_certificates_are_the_user_s_choice(name: str) -> None:
    variables = {**NO_FILES, name: "false"}
    env = gather(Options(), variables).variables(variables)
    assert env[name] == "false"
    assert len({"UV_SYSTEM_CERTS", "UV_NATIVE_TLS"} & env.keys()) == 1


def test_urls_are_not_among_the_arguments_that_everyone_can_list() -> None:
    options = Options(index_url="https://me:hush@a", no_index=True, no_binary=("x",), find_links=("https://me:hush@b",))
    assert gather(options, NO_FILES).arguments() == ["--no-index", "--no-binary=x"]


def test_secrets_do_not_make_another_key_and_choices_do() -> None:
    one = gather(Options(index_url="https://me:one@a/simple"), NO_FILES)
    two = gather(Options(index_url="https://me:two@a/simple"), NO_FILES)
    assert one.key() == two.key()
    assert "me" not in str(one.key()["index"])
    other = gather(Options(index_url="https://b/simple"), NO_FILES)
    dated = gather(Options(index_url="https://a/simple"), {**NO_FILES, "UV_EXCLUDE_NEWER": "2024-01-01"})
    assert len({str(sources.key()) for sources in (one, other, dated)}) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hush@host/x", "https://host/x"),
        ("see https://hush@host, or http://a:b@c/d", "see https://host, or http://c/d"),
        ("https://me:hu@sh@host/x", "https://host/x"),
        ("git+https://hush@host/x@v1", "git+https://host/x@v1"),
        ("git+ssh://git@host/x@v1", "git+ssh://git@host/x@v1"),
        ("git+ssh://me:hush@host/x", "git+ssh://host/x"),
        ("https://host/x.whl?sv=1&sig=hush&se=2", "https://host/x.whl?sv=1&sig=***&se=2"),
        ("https://host/x?access_token=hush#egg=y", "https://host/x?access_token=***#egg=y"),
        ("mail me@host", "mail me@host"),
        ("https://host/a@b", "https://host/a@b"),
        ("file:///a/b@c", "file:///a/b@c"),
        ("https://host/t/ab-1234/lab/noarch", "https://host/lab/noarch"),
        ("of 'https://me:hush@host:80/t/${TOKEN}/lab'", "of 'https://host:80/lab'"),
        ("ask https://host/t/ab-1234, or", "ask https://host, or"),
        ("https://host/a/t/b/c", "https://host/a/t/b/c"),
        ("https://host/t/base.sif", "https://host/t/base.sif"),
        ("docker://host/t/image:1", "docker://host/t/image:1"),
    ],
)
def test_urls_are_shown_without_their_secrets(text: str, shown: str) -> None:
    assert strip(text) == shown
    assert strip(shown) == shown


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(SpecError, match="TOKEN"):
        expand("https://${TOKEN}@host", {})


def test_secrets_are_hidden_wherever_a_tool_shows_them() -> None:
    veil = Veil(["https://me:hush%40hush@host/simple", "https://host/${TOKEN}/x", "https://a/b?sig=signed"], {"TOKEN": "t0ken"})
    text = "password hush@hush or hush%40hush, t0ken in https://host/t0ken/x, signed, https://who:else@there/"
    assert veil(text) == "password *** or ***, ${TOKEN} in https://host/${TOKEN}/x, ***, https://there/"


def test_short_words_are_hidden_in_urls_alone() -> None:
    veil = Veil(["https://me:a@host/simple"], {})
    assert veil("a package at https://me:a@host/simple") == "a package at https://host/simple"


def test_a_recorded_url_gets_its_secrets_back() -> None:
    veil = Veil(["https://me:hushhush@host/x.whl", "https://a/y?sig=signed", "git+https://tokentoken@g/r@main"], {})
    assert veil.unveil("https://host/x.whl") == "https://me:hushhush@host/x.whl"
    assert veil.unveil("https://a/y?sig=***") == "https://a/y?sig=signed"
    assert veil.unveil("git+https://g/r@0123abc") == "git+https://tokentoken@g/r@0123abc"
    assert veil.unveil("https://elsewhere/z") == "https://elsewhere/z"


def test_the_token_of_an_index_is_hidden_and_given_back() -> None:
    veil = Veil(["https://host/t/ab-1234/me/simple"], {})
    assert veil("ab-1234 was refused at https://host/t/ab-1234/me/x.whl") == "*** was refused at https://host/me/x.whl"
    assert veil.unveil("https://host/me/x.whl") == "https://host/t/ab-1234/me/x.whl"


def test_variables_of_a_recorded_url_are_filled_in() -> None:
    veil = Veil([], {"HOME_OF": "h"})
    assert veil.unveil("https://elsewhere/${HOME_OF}/z") == "https://elsewhere/h/z"
