"""Accounts: staying signed in, leaving, and a forgotten password."""

import asyncio
import json
import re
from pathlib import Path

import httpx

from browser.conftest import OpenTab
from browser.people import PASSWORD, Person, new_email
from waiting import PATIENCE_S, until

NEW_PASSWORD = "seven wooden spoons"
_TOKEN = re.compile(r"#/reset\?token=([\w%.~-]+)|^\s*([\w-]{32,})\s*$", re.MULTILINE)


async def reset_token(client: httpx.AsyncClient, email: str) -> str:
    """Out of the mail that comes."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for mail in (await client.get("/mailbox/messages")).json():
                if mail["to"] == email and (found := _TOKEN.search(mail["text"])):
                    return found[1] or found[2]
            await asyncio.sleep(0.1)


async def test_a_session_is_renewed_and_ends_with_signing_out(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await customer.sign_in(page)
        await page.run(
            "localStorage['purveyor.session'] = "
            "JSON.stringify({...JSON.parse(localStorage['purveyor.session']), access: 'expired', renewAt: 0})"
        )
        await page.reload()
        await page.go("#/orders")
        await page.sees("No orders yet")
        assert sum(url.endswith("/token/refresh") for _, url in page.requests) == 1
        session = await page.run("JSON.parse(localStorage['purveyor.session'])")
        await page.go("#/account")
        await page.click("button", "Sign out")
        await page.shows("/")
        assert await page.run("localStorage['purveyor.session']") is None
    answer = await customer.client.post("/token/refresh", json={"refresh_token": session["refresh"]})
    assert answer.status_code == 401


async def test_a_forgotten_password_is_replaced(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await page.open("/#/sign-in")
        await page.click("a", "Forgot password?")
        await page.shows("/forgot")
        await page.fill("Email", customer.email)
        await page.click("button", "Send reset link")
        await page.sees("we have sent it an email")
        token = await reset_token(customer.client, customer.email)
        await page.go("#/reset?token=" + "x" * len(token))
        await page.fill("New password", NEW_PASSWORD)
        await page.click("button", "Change password")
        await page.until("document.querySelector('.alert')", "that the token is not good")
        page.forgive("Failed to load resource")
        await page.go("#/forgot")
        await page.go("#/reset")
        await page.fill("Reset code", token)
        await page.fill("New password", NEW_PASSWORD)
        await page.click("button", "Change password")
        await page.shows("/sign-in")
        await page.fill("Email", customer.email)
        await page.fill("Password", PASSWORD)
        await page.click("button", "Sign in")
        await page.sees("Incorrect email address or password")
        page.forgive("401")
        await page.fill("Password", NEW_PASSWORD)
        await page.click("button", "Sign in")
        await page.shows("/")


async def test_profile_and_password_are_changed(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await customer.sign_in(page, "#/account")
        await page.fill("Name", "Ada King")
        await page.click("button", "Save")
        await page.sees("Your profile was saved.")
        assert await page.run("document.querySelector('#nav-account').textContent") == "Ada King"
        await page.click("summary", "Change password")
        await page.fill("Current password", PASSWORD)
        await page.fill("New password", NEW_PASSWORD)
        await page.click("button", "Change password")
        await page.sees("Your password was changed.")
        await page.go("#/orders")
        await page.sees("No orders yet")
    answer = await customer.client.post("/login", json={"email": customer.email, "password": NEW_PASSWORD})
    assert answer.status_code == 200


async def test_addresses_are_added_edited_and_deleted(tab: OpenTab, customer: Person) -> None:
    async def saved() -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await customer.call("GET", f"/user/{customer.id}/addresses")).json()
        return found

    async with tab() as page:
        await customer.sign_in(page, "#/account")
        await page.sees("No saved addresses.")
        await page.click("summary", "Add address")
        await page.fill("Address", "12 St James's Square")
        await page.fill("Postal code", "SW1Y 4JH")
        await page.fill("City", "London")
        await page.choose("Country", "GB")
        await page.run("document.querySelector('[name=is_default]').click()")
        await page.run("document.querySelectorAll('details [aria-label=\"Add address\"] .button')[0].click()")
        await page.sees("London, SW1Y 4JH")
        assert [(one["line1"], one["is_default"]) for one in await saved()] == [("12 St James's Square", True)]
        await page.click(
            "button", "Edit address: Ada Lovelace, 12 St James's Square, London, SW1Y 4JH, United Kingdom"
        )
        await page.run("document.querySelector('[aria-label=\"Edit address\"] [name=line2]').value = 'Room 7'")
        await page.run("document.querySelector('[aria-label=\"Edit address\"] .button').click()")
        await page.sees("Room 7")
        assert [(one["line2"], one["is_default"]) for one in await saved()] == [("Room 7", True)]
        await page.run("document.querySelector('[aria-label^=\"Delete address\"]').click()")
        await page.sees("No saved addresses.")
    assert await saved() == []


async def test_other_sessions_are_signed_out(tab: OpenTab, customer: Person) -> None:
    await customer.client.post("/login", json={"email": customer.email, "password": PASSWORD})
    async with tab() as page:
        await customer.sign_in(page, "#/account")
        await page.sees("Where you are signed in")
        sessions = "document.querySelectorAll('[aria-labelledby=sessions] .entries > li')"
        assert await page.run(f"{sessions}.length") == 3
        await page.run("document.querySelector('[aria-labelledby=sessions] .link').click()")
        await page.until(f"{sessions}.length === 2")
        await page.click("button", "Sign out all other devices")
        await page.until(f"{sessions}.length === 1")
        await page.sees("This device")
        await page.go("#/orders")
        await page.sees("No orders yet")


async def test_personal_data_is_saved_and_the_account_deleted(
    tab: OpenTab, customer: Person, tmp_path: Path
) -> None:
    async with tab() as page:
        await customer.sign_in(page, "#/account")
        await page.click("button", "Export my data")
        file = tmp_path / "personal-data.json"
        await until(file.exists)
        assert json.loads(file.read_text(encoding="utf-8"))["profile"]["email"] == customer.email
        await page.click("summary", "Delete account")
        await page.click("button", "Delete account for good")
        await page.until("document.querySelector('[name=sure][aria-invalid]')", "that it must be ticked")
        await page.run("document.querySelector('[name=sure]').click()")
        await page.fill("Current password", NEW_PASSWORD)
        await page.click("button", "Delete account for good")
        await page.sees("Is not the current password")
        page.forgive("401")
        await page.fill("Current password", PASSWORD)
        await page.click("button", "Delete account for good")
        await page.shows("/")
        await page.sees("Your account was deleted.")
        assert await page.run("localStorage['purveyor.session']") is None
    answer = await customer.client.post("/login", json={"email": customer.email, "password": PASSWORD})
    assert answer.status_code == 401


async def test_mail_address_is_changed_by_the_link_in_a_mail(tab: OpenTab, customer: Person) -> None:
    address = new_email("new-address")

    async def confirmation() -> str | None:
        for mail in (await customer.client.get("/mailbox/messages")).json():
            if mail["to"] == address and (found := re.search(r"#/confirm\?token=([\w%-]+)", mail["text"])):
                return found[1]
        return None

    async with tab() as page:
        await customer.sign_in(page, "#/account")
        await page.click("summary", "Change email address")
        await page.fill("New email address", address)
        await page.fill("Current password", PASSWORD)
        await page.click("button", "Send confirmation")
        await page.sees(f"We have sent an email to {address}.")
        token = await until(confirmation)
        await page.go(f"#/confirm?token={token}")
        await page.sees("Your email address is confirmed")
        await page.go("#/account")
        await page.sees(address)
        await page.go(f"#/confirm?token={token}x")
        await page.sees("This link does not work")
        page.forgive("Failed to load resource")
    answer = await customer.client.post("/login", json={"email": address, "password": PASSWORD})
    assert answer.status_code == 200
