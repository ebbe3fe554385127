"""What a browser keeps of a login in its profile, and what is gone after browser.logout."""

from __future__ import annotations

from tests.browser.signing import APP, EVIL, Rig


async def test_a_login_is_kept_in_its_profile_when_the_answer_comes(rig: Rig) -> None:
    await rig.fresh(profile="work")
    assert rig.is_in(await rig.login("/remember"))
    session = next(iter(rig.site.accounts.sessions))
    assert session in str(await rig.browsers.store.profile(rig.row.space_id, "work"))


async def test_logout_forgets_what_sites_stored(rig: Rig) -> None:
    await rig.login("/plain")
    gone = await rig.call("browser.logout")
    assert gone.cookies >= 1
    back = await rig.call("browser.navigate", url=f"{APP}/home")
    assert back.url == f"{APP}/plain"


async def test_logout_of_one_origin_leaves_the_others(rig: Rig) -> None:
    await rig.login("/plain")
    await rig.call("browser.logout", origin=EVIL)
    assert (await rig.call("browser.navigate", url=f"{APP}/home")).url == f"{APP}/home"
    await rig.call("browser.logout", origin=APP)
    assert (await rig.call("browser.navigate", url=f"{APP}/home")).url == f"{APP}/plain"


FORGOTTEN = r'"cookies:\nlocal:\nsession:"'
"""What /storage says where nothing was kept."""


async def test_logout_forgets_databases_tabs_and_further_contexts(rig: Rig) -> None:
    """An application that keeps its session anywhere but in a cookie is signed out too."""
    await rig.fresh(profile="forgets")
    await rig.call("browser.navigate", url="https://third.test/links100")
    page = rig.live.pages["p1"].page
    await page.evaluate("new Promise(done => { indexedDB.open('session', 1).onsuccess = done })")
    await rig.call("browser.navigate", url=f"{APP}/storage")
    await page.get_by_text("kept").last.wait_for()
    further = await rig.live.open_context()
    await further.pages[0].goto(f"{APP}/storage")
    assert {one["origin"] for one in (await rig.live.live.context.storage_state(indexed_db=True))["origins"]} == {
        APP,
        "https://third.test",
    }
    await rig.call("browser.logout")
    assert rig.live.further == [] and [one.page for one in (await rig.call("browser.pages")).pages] == ["p1"]
    assert (await rig.call("browser.pages")).pages[0].url == "about:blank"
    kept = str(await rig.browsers.store.profile(rig.row.space_id, "forgets"))
    assert "third.test" not in kept and "kept" not in kept
    back = await rig.call("browser.navigate", url=f"{APP}/storage")
    assert FORGOTTEN in back.changes


async def test_logout_of_one_origin_takes_its_parents_cookies_and_its_tabs_and_no_more(rig: Rig) -> None:
    context, further = rig.live.live.context, await rig.live.open_context()
    cookie = {"value": "x", "path": "/"}
    for one in (context, further):
        for name, domain in (("parent", ".app.test"), ("own", "www.app.test"), ("other", "app.test")):
            await one.add_cookies([{"name": name, "domain": domain, **cookie}])  # type: ignore[typeddict-item]
    await rig.call("browser.navigate", url="https://www.app.test/storage", page="p1")
    await rig.call("browser.navigate", url="https://third.test/storage", page="p1")
    beside = (await rig.call("browser.navigate", url=f"{EVIL}/storage", new_page=True)).page
    await rig.call("browser.logout", origin="https://www.app.test")
    for one in (context, further):
        names = {kept["name"] for kept in await one.cookies()}
        assert "other" in names and not names & {"parent", "own"}
    # The tab was there before it went elsewhere, and so had its session storage.
    urls = {one.page: one.url for one in (await rig.call("browser.pages")).pages}
    assert urls["p1"] == "about:blank" and urls[beside] == f"{EVIL}/storage"
    again = await rig.call("browser.navigate", url="https://www.app.test/storage", page="p1")
    assert FORGOTTEN in again.changes
    third = await rig.call("browser.navigate", url="https://third.test/storage", page="p1")
    assert "local: kept" in third.changes
