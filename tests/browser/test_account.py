"""Accounts: staying signed in, leaving, and a forgotten password."""

import asyncio
import re

import httpx

from browser.conftest import OpenTab
from browser.people import PASSWORD, Person
from waiting import PATIENCE_S

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
