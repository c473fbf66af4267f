"""The development mailbox: search, views, and deletion."""

import random
from contextlib import aclosing

import httpx

from browser.conftest import OpenTab
from browser.people import Person, new_person
from own_processes import Processes
from purveyor.cli.demo.shop import DemoShop

_ITEM = "document.querySelectorAll('#mails li').length"
_STATUS = "document.getElementById('status').textContent"


async def test_emails_are_found_read_and_deleted(client: httpx.AsyncClient, tab: OpenTab) -> None:
    person = await new_person(client)
    async with tab() as page:
        await page.open("/mailbox")
        await page.until(f"{_ITEM} > 0", "the emails")
        await page.fill("Search emails", person.email.upper())
        await page.until(f"{_STATUS} === '1 email' && {_ITEM} === 1", "the email that matches")
        await page.until("document.getElementById('html').srcdoc.includes('<h1')", "its HTML")
        await page.until("document.getElementById('html').clientHeight > 100", "the frame")
        await page.click("label", "Headers")
        await page.until("document.getElementById('text').textContent.includes('Message-ID: <')", "its headers")
        await page.click("label", "Source")
        await page.until("document.getElementById('text').textContent.includes('quoted-printable')", "its source")
        await page.click("label", "Plain text")
        await page.until("document.getElementById('text').textContent.startsWith('Hello')", "its text")
        await page.click("button", "Delete")
        await page.until(f"{_STATUS} === 'No emails match'", "no email")
    found = await client.get("/mailbox/messages", params={"q": person.email})
    assert (found.json(), found.headers["X-Total-Count"]) == ([], "0")


async def test_demo_customers_open_the_link_in_their_welcome_email(processes: Processes, staff: Person) -> None:
    async with aclosing(DemoShop(f"http://127.0.0.1:{processes.ports['shop']}", random.Random(1))) as shop:
        customer = await shop.join(0, "correct horse")
    found = await staff.call("GET", "/users", params={"q": customer.email})
    assert [user["email_confirmed"] for user in found.json()["users"]] == [True]
